"""The page over HTTP: what it shows, does and refuses, as Envoy passes requests on; nothing that somebody wrote is markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from controlplane.domain.load import LoadReport
from controlplane.registry import FakeRegistry
from tests.controlplane.api.harness import PATH, config
from tests.controlplane.ui.conftest import ATTACK, Page

EP = "/ui/endpoints/ep"


def made(page: Page, name: str = "ep", **more: Any) -> None:
    """An endpoint of two served entities that is ready."""
    answer = page.api.client.post(PATH, json={"name": name, "config": config(), **more})
    assert answer.status_code == 200, answer.text
    page.api.succeed(name)


def form(*rows: dict[str, str], **more: str) -> dict[str, Any]:
    """What a browser sends of the configuration form."""
    fields = {f"e{n}.{key}": value for n, row in enumerate(rows) for key, value in row.items()}
    return {"row": [f"e{n}" for n in range(len(rows))], **fields, **more}


CHURN = {"name": "m", "model": "churn", "version": "3", "size": "Small", "percent": "100"}


def test_every_answer_forbids_foreign_code(page: Page) -> None:
    """A strict policy on pages, parts, refusals and files; files may be kept, pages may not."""
    made(page)
    for path in ("/ui/endpoints/", f"{EP}/", f"{EP}/live", "/ui/nothing", "/ui/sign-in/", "/ui/static/wye.css"):
        answer = page.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"\son\w+=|\sstyle=|<script(?! src=)|<style", answer.text) or path.startswith("/ui/static")
    url = re.search(r"/ui/static/wye\.css\?v=\w+", page.get("/ui/endpoints/").text)
    assert url is not None
    assert "immutable" in page.get(url[0]).headers["Cache-Control"]
    assert page.get("/ui/endpoints/").headers["Cache-Control"] == "no-store"
    assert page.get("/ui/static/../app.py").status_code == 404


def test_what_people_write_is_text_everywhere(page: Page) -> None:
    """Descriptions, tags, model names, messages, users: shown as they are, and never as markup."""
    assert isinstance(page.api.registry, FakeRegistry)
    model = ATTACK.replace("/", "\u2215")
    page.api.registry.held[model] = {"1": "/x"}
    entity = {"name": "m", "entity_name": model, "entity_version": "1"}
    body = {"name": "ep", "description": ATTACK, "tags": [{"key": ATTACK, "value": ATTACK}]}
    assert page.api.client.post(PATH, json={**body, "config": {"served_entities": [entity]}}).status_code == 200
    page.api.fail("ep", ATTACK)
    for path in (
        *("/ui/endpoints/", f"/ui/endpoints/?q={ATTACK}&tag={ATTACK}&state={ATTACK}&sort={ATTACK}&page={ATTACK}"),
        *(f"{EP}/", f"{EP}/edit/", f"{EP}/query/", f"{EP}/history/", f"{EP}/permissions/", f"{EP}/settings/"),
        *(f"{EP}/logs/?model={ATTACK}&kind={ATTACK}", f"/ui/endpoints/{ATTACK}/", f"/ui/sign-in/?to={ATTACK}"),
        *(f"/ui/create/versions?e0.model={ATTACK}", f"/ui/create/models?e0.model={ATTACK}", "/ui/control-plane/"),
    ):
        answer = page.get(path, user=ATTACK if path == "/ui/create/" else "admin")
        assert answer.status_code < 500, path
        text = answer.text
        assert "<script>alert" not in text, path
        assert "<img src=x" not in text, path
        assert "62773913" not in text, path
    checked = page.post("/ui/create/check", form({**CHURN, "name": ATTACK, "model": ATTACK}, name=ATTACK))
    assert "<script>alert" not in checked.text


def test_a_form_that_was_not_made_for_its_sender_does_nothing(page: Page) -> None:
    """Without its secret, with somebody else's, and from another site; the API's own tokens are of no use to it."""
    made(page)
    before = page.api.endpoints.get("ep")
    for data, headers in (
        ({}, {}),
        ({"form_token": ""}, {}),
        ({"form_token": page.secret("bob")}, {}),
        ({"form_token": page.secret()}, {"Sec-Fetch-Site": "cross-site"}),
        ({"form_token": page.secret()}, {"Sec-Fetch-Site": "same-site"}),
    ):
        for path in ("/do/stop", "/settings/delete", "/history/rollback", "/edit/", "/permissions/add"):
            answer = page.client.post(
                f"{EP}{path}",
                data={**data, "confirmed": "ep"},
                headers={"x-wye-user": "admin", "x-wye-groups": ",admins,", **headers},
            )
            assert answer.status_code == 403, path
    assert page.api.endpoints.get("ep") == before


def test_nobody_may_do_on_the_page_what_the_api_refuses(page: Page) -> None:
    """A stranger sees nothing, a viewer changes nothing; each is told in the API's words."""
    made(page)
    endpoint = page.api.endpoints.get("ep")
    assert endpoint is not None
    acl = f"/api/2.0/permissions/serving-endpoints/{endpoint.id}"
    grant = {"user_name": "vera", "permission_level": "CAN_VIEW"}
    assert page.api.client.put(acl, json={"access_control_list": [grant]}).status_code == 200
    assert "ep" not in re.findall(r'href="/ui/endpoints/(\w+)/"', page.get("/ui/endpoints/", "bob").text)
    for path in ("/", "/live", "/load", "/edit/", "/query/", "/history/", "/permissions/", "/settings/", "/logs/"):
        answer = page.get(f"{EP}{path}", "bob")
        assert answer.status_code == 403, path
        assert "bob does not have CAN_VIEW" in answer.text
    assert page.get(f"{EP}/", "vera").status_code == 200
    assert "Edit configuration" not in page.get(f"{EP}/", "vera").text
    assert page.get("/ui/control-plane/", "vera").status_code == 403
    before = page.api.endpoints.get("ep")
    for path, fields in (
        *(("/do/stop", {}), ("/do/start", {}), ("/do/cancel", {}), ("/history/rollback", {"version": "1"})),
        *(("/settings/delete", {"confirmed": "ep"}), ("/settings/tags/add", {"key": "k"}), ("/edit/", form(CHURN))),
        *(("/settings/description", {"description": "x"}), ("/settings/tags/remove", {"key": "k"})),
        ("/permissions/add", {"kind": "user_name", "principal": "vera", "level": "CAN_MANAGE"}),
        ("/permissions/remove", {"kind": "user_name", "principal": "x"}),
    ):
        answer = page.post(f"{EP}{path}", fields, user="vera")
        assert (answer.status_code, path) == (403, path)
    assert page.api.endpoints.get("ep") == before
    answer = page.client.get("/ui/endpoints/")
    assert (answer.status_code, "token" in answer.text) == (401, True)


def test_signing_in_is_refused_with_the_reason_and_accepted_as_a_safe_cookie(page: Page) -> None:
    """Not a token, another Wye's, an expired and a revoked one; a good one leads on, but never to another site."""
    good, _ = page.token("bob")
    expired, _ = page.token("bob", expires_ms=2_000)
    revoked, token = page.token("bob")
    page.tokens.revoke(token.id, 5)
    head, _, signature = good.rpartition(".")
    for given, reason in (
        ("", "Paste a token"),
        ("nonsense", "not a token"),
        (f"{head}.{signature[::-1]}", "not a token"),
        (expired, "expired"),
        (revoked, "revoked"),
    ):
        answer = page.client.post("/ui/sign-in/", data={"token": given, "to": "/ui/endpoints/"})
        assert (answer.status_code, reason in answer.text) == (403, True), given
        assert "Set-Cookie" not in answer.headers
        assert given == "" or given not in answer.text
    for to, leads in (
        ("/ui/create/", "/ui/create/"),
        ("https://evil.example/", "/ui/endpoints/"),
        ("//evil.example", "/ui/endpoints/"),
        ("/ui/\\evil", "/ui/endpoints/"),
        ("/ui/sign-in/out", "/ui/endpoints/"),
    ):
        answer = page.client.post("/ui/sign-in/", data={"token": f" Bearer {good}\n", "to": to})
        assert (answer.status_code, answer.headers["Location"]) == (303, leads)
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"wye-session={good}; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    headers = {"X-Forwarded-Proto": "https"}
    assert "Secure" in page.client.post("/ui/sign-in/", data={"token": good}, headers=headers).headers["Set-Cookie"]
    foreign = page.client.post("/ui/sign-in/", data={"token": good}, headers={"Sec-Fetch-Site": "cross-site"})
    assert (foreign.status_code, "Set-Cookie" in foreign.headers) == (403, False)
    out = page.client.post("/ui/sign-in/out")
    assert (out.status_code, "Max-Age=0" in out.headers["Set-Cookie"]) == (303, True)
    part = page.client.get("/ui/sign-in/", headers={"HX-Request": "true"})
    assert part.headers["HX-Redirect"] == "/ui/sign-in/"


def test_creating_editing_going_back_and_deleting(page: Page) -> None:
    """The API's own rules refuse what is wrong, in their words, with what was typed still there."""
    wrong = page.post("/ui/create/", form({**CHURN, "version": "99", "percent": "90"}, name="new"))
    assert wrong.status_code == 400
    assert "add up to 90" in wrong.text or "100" in wrong.text
    assert 'value="new"' in wrong.text
    checked = page.post("/ui/create/check", form({**CHURN, "version": "99"}, name="no good name"))
    assert "has no version" in checked.text
    assert "is not a name" in checked.text
    assert "will be started" in page.post("/ui/create/check", form(CHURN, name="new")).text
    created = page.post("/ui/create/", form(CHURN, name="new", description="d", tags="team=risk"))
    assert (created.status_code, created.headers["Location"]) == (303, "/ui/endpoints/new/")
    assert "Cancel the update" in page.get("/ui/endpoints/new/").text
    page.api.succeed("new")
    again = form({**CHURN, "version": "4"})
    told = page.post("/ui/endpoints/new/edit/check", again).text
    assert "<del>3</del>" in told
    assert "<ins>4</ins>" in told
    assert page.post("/ui/endpoints/new/edit/", again).status_code == 303
    assert page.post("/ui/endpoints/new/edit/", again).status_code == 409
    assert page.post("/ui/endpoints/new/do/cancel").status_code == 303
    assert page.post("/ui/endpoints/new/edit/", again).status_code == 303
    page.api.succeed("new")
    history = page.get("/ui/endpoints/new/history/").text
    assert "From version 2 to 3" in history
    assert "They ask for the same" in history
    compared = page.get("/ui/endpoints/new/history/?from=1&to=3").text
    assert "<del>3</del>" in compared
    assert page.post("/ui/endpoints/new/history/rollback", {"version": "1"}).status_code == 303
    page.api.succeed("new")
    endpoint = page.api.endpoints.get("new")
    assert endpoint is not None
    assert endpoint.active is not None
    assert endpoint.active.entities[0].spec.entity_version == "3"
    assert endpoint.active.creator == "admin"
    assert page.post("/ui/endpoints/new/settings/tags/add", {"key": "k", "value": "v"}).status_code == 303
    assert page.post("/ui/endpoints/new/settings/tags/remove", {"key": "team"}).status_code == 303
    assert page.post("/ui/endpoints/new/settings/description", {"description": "better"}).status_code == 303
    text = page.get("/ui/endpoints/new/settings/").text
    assert "k: v" in text
    assert "better" in text
    grant = {"kind": "user_name", "principal": "bob", "level": "CAN_MANAGE"}
    assert page.post("/ui/endpoints/new/permissions/add", grant).status_code == 303
    assert page.get("/ui/endpoints/new/", "bob").status_code == 200
    assert page.post("/ui/endpoints/new/permissions/remove", grant).status_code == 303
    assert page.get("/ui/endpoints/new/", "bob").status_code == 403
    assert page.post("/ui/endpoints/new/settings/delete", {"confirmed": "other"}).status_code == 400
    assert page.post("/ui/endpoints/new/settings/delete", {"confirmed": "new"}).status_code == 303
    assert page.get("/ui/endpoints/new/").status_code == 404


class Untouched(HTMLParser):
    """What a browser sends of a page's fields when nobody has touched them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fields: dict[str, Any] = {"row": []}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Inputs that count, chosen options, and the beginning of texts."""
        given = dict(attrs)
        name = given.get("name") or ""
        if name == "row":
            self.fields["row"].append(given["value"])
        elif tag in {"select", "textarea"}:
            self._open = name
            self.fields[name] = ""
        elif tag == "option" and "selected" in given:
            self.fields[self._open] = given["value"]
        elif tag == "input" and name and (given.get("type") != "checkbox" or "checked" in given):
            self.fields[name] = given["value"]

    def handle_endtag(self, tag: str) -> None:
        """The end of a text, whose lines end as in every form."""
        if tag == "textarea":
            self.fields[self._open] = self.fields[self._open].replace("\n", "\r\n")
            self._open = ""

    def handle_data(self, data: str) -> None:
        """A part of a text."""
        if self.lasttag == "textarea" and self._open:
            self.fields[self._open] += data


def test_a_form_that_is_sent_back_with_other_weights_changes_nothing_else(page: Page) -> None:
    """Variables of several lines and with blanks at their ends, and a range that has one end only, stay as they are."""
    given = config()
    variables = {"KEY": "-----BEGIN-----\nabc\n-----END-----", "PAD": "  two blanks", "QUOTED": '"a"', "Z": "x "}
    given["served_entities"][0] |= {"environment_vars": variables, "min_provisioned_concurrency": 8}
    given["served_entities"][1] |= {"max_provisioned_concurrency": 16}
    assert page.api.client.post(PATH, json={"name": "ep", "config": given}).status_code == 200
    page.api.succeed("ep")
    before = page.api.endpoints.get("ep")
    for path in ("/", "/edit/"):
        shown = page.get(EP + path).text
        assert ("up to 16" in shown, "several lines" in shown) == (True, path == "/edit/")
    form = Untouched(shown).fields | {"e0.percent": "50", "e1.percent": "50"}
    half = page.post(f"{EP}/edit/", form | {"e0.environment": r'A="\ud800"'})
    assert (half.status_code, "half of a character" in half.text) == (400, True)
    assert page.post(f"{EP}/edit/", form).status_code == 303
    page.api.succeed("ep")
    after = page.api.endpoints.get("ep")
    assert before is not None
    assert after is not None
    assert before.active is not None
    assert after.active is not None
    assert [route.percent for route in after.active.traffic] == [50, 50]
    assert after.active.entities == before.active.entities, "what serves starts anew"


def test_load_is_shown_where_there_is_some(page: Page) -> None:
    """In the list, beside the split that was asked for, and as the charts' data."""
    made(page)
    endpoint = page.api.endpoints.get("ep")
    assert endpoint is not None
    now_ms = page.api.clock.now_ms() + 10_000
    page.api.clock.advance(10)
    reports = [
        LoadReport("envoy", f"ep/{name}@1.{endpoint.id[:8]}", 1.0, issued, issued - failed, failed, 0)
        for name, issued, failed in (("current", 300, 3), ("challenger", 100, 0))
    ]
    page.history.heard("envoy", reports, now_ms)
    overview = page.get(f"{EP}/live").text
    assert "75.0 %" in overview
    assert "25.0 %" in overview
    assert page.get("/ui/endpoints/?sort=-rate").text.count("0.75 %") == 1
    load = page.get(f"{EP}/load").get_json()
    assert [each["name"] for each in load["series"]] == ["current", "challenger"]
    assert len(load["times"]) == len(load["series"][0]["rate"])


@pytest.mark.parametrize("away", [True, False])
def test_models_are_offered_where_the_registry_answers(page: Page, *, away: bool) -> None:
    """With aliases; without a registry the form still works, and its check says what is the matter."""
    registry = page.api.registry
    assert isinstance(registry, FakeRegistry)
    registry.aliases["churn"] = {"champion": "4"}
    registry.away = "it is away" if away else ""
    offered = page.get("/ui/create/versions?e0.model=churn").text
    assert ("4 @champion" in offered, "@champion, now 4" in offered) == (not away, not away)
    assert ("churn" in page.get("/ui/create/models?e0.model=CHU").text) == (not away)
    assert page.get("/ui/create/").status_code == 200
    assert ("it is away" in page.post("/ui/create/check", form(CHURN, name="n")).text) == away


def test_only_the_part_that_changes_is_sent_again(page: Page) -> None:
    """To htmx; somebody who asks with a browser gets a whole page."""
    made(page)
    for path in ("/ui/endpoints/", "/ui/control-plane/", f"{EP}/logs/"):
        whole, part = page.get(path).text, page.get(path, headers={"HX-Request": "true"}).text
        assert whole.startswith("<!doctype html>")
        assert "<html" not in part
