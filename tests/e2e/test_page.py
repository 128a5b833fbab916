"""The Serving page in a real Chromium, on a real Wye: as people use it, as they attack it, and while the control plane is away."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Locator, Page, expect, sync_playwright

from tests.e2e.wye import EXAMPLE, Wye, config, until
from tests.processes import alive

#: Chromium as Debian, others and Chrome call it; Playwright's own would have to be downloaded.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)")

ATTACK = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
#: A slow machine is no failure.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def wye(registry: str, short_dir: Path) -> Iterator[Wye]:
    """A Wye of these tests' own: one of them kills its control plane."""
    running = Wye(short_dir / "page", registry=registry)
    running.create("shown", config({"a": 90, "b": 10}, a="linear/1", b="other/1"))
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser, wye: Wye) -> Iterator[Callable[..., Page]]:
    """Opens pages in a fresh profile each, signed in unless told otherwise; errors of their scripts fail the test."""
    errors: list[str] = []
    contexts = []

    def note(text: str) -> None:
        # Refusals and requests that were given up, which some tests are about; the browser and htmx tell of them.
        if not text.startswith(("Failed to load resource", "Response Status Error", "htmx:")):
            errors.append(text)

    def open_page(path: str = "/", *, token: str | None = None, **options: object) -> Page:
        context = browser.new_context(base_url=wye.url, **options)  # type: ignore[arg-type]
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: note(str(error)))
        page.on("console", lambda message: note(message.text) if message.type == "error" else None)
        page.goto(path)
        if token != "":
            page.get_by_label("Token").fill(token or wye.token)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(lambda url: "/sign-in/" not in url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def ready(page: Page) -> Locator:
    """The word for an endpoint's state."""
    return page.locator("#live .about .state")


def test_signing_in_is_refused_and_accepted(wye: Wye, opened: Callable[..., Page]) -> None:
    """A stranger gets no further; the token becomes a cookie that opens the page, and not the API."""
    page = opened("/", token="")
    assert "/ui/sign-in/" in page.url
    page.get_by_label("Token").fill("not-a-token")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("This is not a token of this Wye.")
    page.get_by_label("Token").fill(wye.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Endpoints")).to_be_visible()
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["value"]) == (True, "Strict", wye.token)
    assert page.evaluate("document.cookie") == ""

    status = """async ([method, path, headers]) => {
        const body = method === "POST" ? "{}" : undefined;
        return (await fetch(path, {method, body, headers: {"content-type": "application/json", ...headers}})).status;
    }"""
    predict = "/serving-endpoints/shown/invocations"
    assert page.evaluate(status, ["GET", "/api/2.0/serving-endpoints", {"x-wye-page": "1"}]) == 401
    assert page.evaluate(status, ["POST", predict, {}]) == 401
    assert page.evaluate(status, ["POST", predict, {"x-wye-page": "1"}]) == 400, (
        "the model is asked, and wants another body"
    )
    page.get_by_role("button", name="Sign out").click()
    page.goto("/ui/endpoints/shown/")
    assert "to=/ui/endpoints/shown/" in page.url


def test_a_revoked_token_leads_back_to_the_door(wye: Wye, opened: Callable[..., Page]) -> None:
    """The page that is open notices, and the next one asks to sign in."""
    made = wye.client.post("/api/2.0/token/create", json={"user_name": "bob", "groups": ["admins"]}).json()
    page = opened("/ui/endpoints/", token=made["token_value"])
    assert wye.client.post("/api/2.0/token/delete", json={"token_id": made["token_info"]["token_id"]}).json() == {}
    page.wait_for_url("**/ui/sign-in/**")
    page.goto("/ui/endpoints/shown/")
    assert "/ui/sign-in/" in page.url


def test_an_endpoint_from_creation_to_rollback(wye: Wye, opened: Callable[..., Page]) -> None:
    """Created from the registry, split by slider, applied as one watches, asked both ways, brought back, deleted."""
    page = opened("/ui/create/")
    page.get_by_label("Name").fill("made")
    first = page.locator("[data-row]").first
    first.get_by_label("Model", exact=True).fill("linear")
    first.get_by_label("Model", exact=True).press("Tab")
    expect(first.get_by_label("Version").locator("option", has_text="@champion, now 2")).to_be_attached()
    first.get_by_label("Version").select_option("1")
    first.get_by_label("Called").fill("old")
    page.get_by_role("button", name="Add a model").click()
    second = page.locator("[data-row]").nth(1)
    second.get_by_label("Model", exact=True).fill("other")
    second.get_by_label("Model", exact=True).press("Tab")
    expect(second.get_by_label("Version")).to_have_value("1")
    second.get_by_label("Called").fill("new")
    slider = second.get_by_label("Traffic of this model in per cent")
    slider.fill("30")
    expect(first.locator("[data-percent]")).to_have_value("70")
    expect(page.locator("#check")).to_contain_text("2 served models will be started")
    page.get_by_role("button", name="Create").click()
    page.wait_for_url("**/ui/endpoints/made/")
    expect(ready(page)).to_have_text("Ready")

    page.get_by_role("link", name="Edit configuration").click()
    slider = page.locator("[data-row]").nth(1).get_by_label("Traffic of this model in per cent")
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator("[data-percent]").first).to_have_value("100")
    expect(page.locator("#check")).to_contain_text("only the traffic moves")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**/ui/endpoints/made/")
    expect(page.locator("#active")).to_contain_text("version 2")
    expect(ready(page)).to_have_text("Ready")
    routes = wye.get("made")["config"]["traffic_config"]["routes"]
    assert [route["traffic_percentage"] for route in routes] == [100, 0]

    page.get_by_role("link", name="Query").click()
    page.get_by_role("textbox", name="Body").fill('{"dataframe_records": [{"x": 1.0, "y": 2.0}]}')
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#status")).to_contain_text("200")
    expect(page.locator("#by")).to_have_text("old")
    expect(page.locator("#text")).to_contain_text("21.0")
    expect(page.locator("#phases")).to_contain_text("predict")
    page.get_by_label("Ask").select_option("new")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#by")).to_have_text("new")
    expect(page.locator("#text")).to_contain_text("210")

    page.get_by_role("link", name="History").click()
    expect(page.locator("#changes")).to_contain_text("From version 1 to 2")
    expect(page.locator("#changes ins").first).to_have_text("100 %")
    page.get_by_role("button", name="Roll back to version 1").click()
    page.wait_for_url("**/ui/endpoints/made/")
    expect(page.locator("#active")).to_contain_text("version 3")
    expect(page.locator(".models tbody td[data-label=Asked]").first).to_have_text("70 %")
    assert wye.settled("made")["config"]["config_version"] == 3

    page.get_by_role("link", name="Settings").click()
    page.get_by_label("Type made").fill("made")
    page.get_by_role("button", name="Delete the endpoint").click()
    page.wait_for_url("**/ui/endpoints/")
    assert wye.client.get("/api/2.0/serving-endpoints/made").status_code == 404


def test_a_failing_update_tells_why_and_changes_nothing(wye: Wye, opened: Callable[..., Page]) -> None:
    """Watched on the page as it happens, without loading it again; the old config goes on answering."""
    wye.create("fails", config({"m": 100}, m="linear/1"))
    page = opened("/ui/endpoints/fails/")
    page.evaluate("window.still = true")
    body = config({"m": 100}, m="broken/1")
    assert wye.client.put("/api/2.0/serving-endpoints/fails/config", json=body).status_code == 200
    expect(page.locator(".update.failed")).to_contain_text("the scaler's file is from another century")
    expect(page.locator(".log pre").last).to_contain_text("another century")
    expect(ready(page)).to_have_text("Update failed")
    assert page.evaluate("window.still"), "the page was loaded anew"
    page.goto("/ui/endpoints/?q=fails")
    expect(page.locator("#row-fails .reason")).to_contain_text("another century")
    assert wye.value("fails") == 21.0
    assert wye.client.delete("/api/2.0/serving-endpoints/fails").status_code == 200


def test_an_endpoint_that_attacks_the_page_is_only_text(wye: Wye, opened: Callable[..., Page]) -> None:
    """Description and tags with markup are read as they were written, and nothing of them runs."""
    tag = {"key": ATTACK, "value": ATTACK}
    body = {"name": "attacks", "description": ATTACK, "tags": [tag], "config": config({"m": 100}, m="linear/1")}
    assert wye.client.post("/api/2.0/serving-endpoints", json=body).status_code == 200
    wye.settled("attacks")
    page = opened("/ui/endpoints/")
    for path in ("", "attacks/", "attacks/settings/", "attacks/edit/", "attacks/history/", "attacks/logs/"):
        page.goto(f"/ui/endpoints/{path}")
        expect(page.locator("main")).to_contain_text("attacks")
        assert page.locator("main script, main img").count() == 0
        assert "taken" not in page.title()
    page.goto("/ui/endpoints/attacks/")
    expect(page.locator(".description")).to_have_text(ATTACK)
    assert wye.client.delete("/api/2.0/serving-endpoints/attacks").status_code == 200


def test_everybody_can_use_it(wye: Wye, opened: Callable[..., Page]) -> None:
    """axe-core finds nothing serious on any page, light or dark; a phone's width is enough; the keyboard gets everywhere."""
    wye.predict("shown", body=EXAMPLE)
    paths = ["/ui/endpoints/", "/ui/create/", "/ui/control-plane/"]
    paths += [
        f"/ui/endpoints/shown/{part}"
        for part in ("", "edit/", "query/", "history/", "permissions/", "settings/", "logs/")
    ]
    assert serious(opened("/", token="")) == {}
    page = opened("/")
    for path in paths:
        page.goto(path)
        if path.endswith("edit/"):
            expect(page.locator("#check")).to_contain_text("in force already")
        assert serious(page) == {}, path
    narrow = opened("/", viewport={"width": 360, "height": 740})
    for path in paths:
        narrow.goto(path)
        assert narrow.evaluate("document.documentElement.scrollWidth") <= 360, path
    narrow.goto("/ui/endpoints/")
    narrow.keyboard.press("Tab")
    expect(narrow.locator(":focus")).to_have_text("Skip to the content")
    narrow.keyboard.press("Enter")
    narrow.keyboard.press("Tab")
    expect(narrow.locator(":focus")).to_have_text("Create endpoint")


def test_the_page_says_that_the_control_plane_is_away_and_recovers(wye: Wye, opened: Callable[..., Page]) -> None:
    """An open page and one that is opened just then; a form of before is still good after."""
    page, form = opened("/ui/endpoints/shown/"), opened("/ui/endpoints/shown/settings/")
    expect(page.locator("#away")).to_be_hidden()
    control_plane = psutil.Process(until(lambda: wye.pid("controlplane")))
    wye.process.send_signal(signal.SIGSTOP)  # it would start another at once
    try:
        os.kill(control_plane.pid, signal.SIGKILL)
        until(lambda: not alive(control_plane))
        expect(page.locator("#away")).to_be_visible()
        late = opened_away(page)
        expect(late.get_by_role("heading")).to_have_text("The control plane does not answer")
    finally:
        wye.process.send_signal(signal.SIGCONT)
    expect(page.locator("#away")).to_be_hidden()
    expect(late.get_by_role("heading", name="Endpoints")).to_be_visible()
    form.get_by_role("textbox", name="Description").fill("written before, sent after")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("textbox", name="Description")).to_have_value("written before, sent after")
    assert wye.get("shown")["description"] == "written before, sent after"


def serious(page: Page) -> dict[str, str]:
    """What axe-core finds that keeps somebody from using the page: its rule, and an example. In the dark, colours differ."""
    page.emulate_media(color_scheme="light")
    found = Axe().run(page).response["violations"]
    page.emulate_media(color_scheme="dark")
    found += Axe().run(page, options={"runOnly": ["color-contrast"]}).response["violations"]
    return {each["id"]: each["nodes"][0]["html"] for each in found if each["impact"] in {"serious", "critical"}}


def opened_away(page: Page) -> Page:
    """A second page in the same profile."""
    late = page.context.new_page()
    with contextlib.suppress(Error):  # it begins to load itself again while it is waited for
        late.goto("/ui/endpoints/")
    return late
