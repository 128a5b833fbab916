"""The page's decisions, on values: which endpoints are listed, what differs, what a form asks for, how numbers read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controlplane.domain import Deployment, Endpoint, EntitySpec, Outcome, Phase, Replica, Tag, TrafficRoute
from controlplane.load_history import Recent
from controlplane.rollout import lifecycle
from controlplane.rollout.state import Published
from controlplane.translate.translate import EndpointView
from controlplane.ui import forms, listing
from controlplane.ui.differences import changes
from controlplane.ui.progress import steps
from controlplane.ui.snippets import snippets
from controlplane.ui.text import ago, milliseconds, percent, pretty, rate, to

SPECS = (EntitySpec("a", "churn", "3"), EntitySpec("b", "fraud", "1", alias="best"))
SPLIT = (TrafficRoute("a", 90), TrafficRoute("b", 10))
FILES = {("churn", "3"): "/3", ("churn", "4"): "/4", ("fraud", "1"): "/1"}


def endpoint(name: str = "ep", *, tags: tuple[Tag, ...] = (), updated: int = 1) -> Endpoint:
    """An endpoint whose first update is under way."""
    made = lifecycle.create(endpoint_id=name * 16, name=name, creator="ann", now_ms=1, tags=tags)
    return lifecycle.begin_update(made, SPECS, SPLIT, FILES, creator="bob", now_ms=updated)


def ready(of: Endpoint, phase: Phase = Phase.READY) -> tuple[Replica, ...]:
    """A replica for each entity."""
    config = of.active or of.pending
    assert config is not None
    return tuple(Replica(e.name, Deployment(of.id, e.name, e.generation), phase) for e in config.entities)


def test_an_endpoints_condition_names_the_reason() -> None:
    """Creating, ready, asleep, failed while serving, stopped, empty, not ready."""
    made = endpoint()
    assert listing.condition(made, ()).word == "Creating"
    served = lifecycle.succeed(made, 2)
    assert listing.condition(served, ready(served)) == listing.Condition("Ready", "good")
    assert listing.condition(served, ready(served, Phase.ASLEEP)).word == "Ready, asleep"
    lost = listing.condition(served, ())
    assert (lost.tone, "No replica" in lost.reason) == ("bad", True)
    again = lifecycle.begin_update(served, SPECS, SPLIT, FILES, creator="x", now_ms=3)
    failed = lifecycle.fail(again, [Outcome("a", failed=True, message="it is broken")], 4)
    assert listing.condition(failed, ready(served)) == listing.Condition("Update failed", "warn", "a: it is broken")
    assert listing.condition(failed, ()).tone == "bad"
    assert listing.condition(lifecycle.stop(served, 3), ()).word == "Stopped"
    empty = lifecycle.create(endpoint_id="e", name="e", creator="ann", now_ms=1)
    assert listing.condition(empty, ()).word == "Empty"


def test_the_list_is_searched_filtered_sorted_and_cut() -> None:
    """By words in any of name, model, tag, owner; by tag; by load; and in pages."""
    many = [endpoint(f"ep-{number:03}", updated=number) for number in range(120)]
    tagged = endpoint("tagged", tags=(Tag("team", "risk"), Tag("gold")))
    everything = [*many, tagged]
    loads = {("ep-007"): Recent(requests=5)}

    def listed(**asked: object) -> listing.Page:
        return listing.listed(
            everything,
            listing.Asked(**asked),  # type: ignore[arg-type]
            lambda _: (),
            lambda keys: loads.get(keys[0][0][:6], Recent()),
        )

    assert (listed().found, listed().pages, len(listed().rows)) == (121, 3, listing.PER_PAGE)
    assert listed(page=3).rows[-1].name == "tagged"
    assert listed(page=99).page == 3
    assert [row.name for row in listed(text="RISK tag").rows] == ["tagged"]
    assert listed(text="fraud").found == 121
    assert listed(tag="team=risk").found == listed(tag="team").found == listed(tag="gold").found == 1
    assert listed(tag="team=other").found == 0
    assert listed(state="busy").found == 121
    assert listed(state="good").found == 0
    assert listed(sort="-changed").rows[0].name == "ep-119"
    assert listed(sort="-rate").rows[0].name == "ep-007"
    row = listed(text="tagged").rows[0]
    assert (row.changed_by, [share.percent for share in row.shares]) == ("bob", [90, 10])
    assert listing.tags_of(everything) == ["gold", "team=risk"]


def test_the_steps_of_an_update_tell_what_it_waits_for() -> None:
    """Replicas, then clusters, then routes; Envoy's words when it refuses; where it failed."""
    made = endpoint()
    assert [each.state for each in steps(made, (), None)] == ["done", "busy", "todo", "todo", "todo"]
    view = EndpointView("ep", True, (), ())
    waiting = steps(made, ready(made), Published(view, None, waiting="envoy-1: has not acknowledged"))
    assert (waiting[2].state, waiting[2].text) == ("busy", "envoy-1: has not acknowledged")
    routed = steps(made, ready(made), Published(view, 1, rejected="no such cluster"))
    assert [each.state for each in routed] == ["done", "done", "done", "busy", "todo"]
    assert routed[3].text == "no such cluster"
    failed = lifecycle.fail(made, [Outcome("a", failed=True, message="no")], 3)
    assert [each.state for each in steps(failed, (), None)] == ["done", "failed", "todo"]
    assert steps(lifecycle.succeed(made, 2), (), None) == ()


def shown(version: str = "3", share: int = 90, **more: object) -> dict[str, object]:
    """A config as the API shows it."""
    entities = [
        {
            "name": "a",
            "entity_name": "churn",
            "entity_version": version,
            "scale_to_zero_enabled": False,
            "workload_size": "Small",
            **more,
        },
        {
            "name": "b",
            "entity_name": "fraud",
            "entity_version": "1",
            "entity_version_alias": "best",
            "scale_to_zero_enabled": True,
            "min_provisioned_concurrency": 4,
            "max_provisioned_concurrency": 12,
            "environment_vars": {"A": "1=2"},
        },
    ]
    routes = [
        {"served_model_name": "a", "traffic_percentage": share},
        {"served_model_name": "b", "traffic_percentage": 100 - share},
    ]
    return {"served_entities": entities, "traffic_config": {"routes": routes}}


def test_a_form_that_is_sent_as_it_was_shown_asks_for_the_same() -> None:
    """Ranges, aliases, environment variables and what the form has no field for included."""
    config = {**shown(instance_profile_arn="arn", workload_type="CPU"), "auto_capture_config": {"enabled": True}}
    rows = forms.shown(config)
    assert rows[1].version == "1@best"
    assert forms.config_body(forms.Form(rows), config) == config


@pytest.mark.parametrize("end", ["min_provisioned_concurrency", "max_provisioned_concurrency"])
def test_a_range_with_one_end_keeps_the_other_open(end: str) -> None:
    """The form asks for no more than there was."""
    config = shown()
    entities: Any = config["served_entities"]
    del entities[1][end]
    assert forms.config_body(forms.Form(forms.shown(config)), config) == config


#: What the API takes: no NUL, and no `=` in names.
TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8") | st.sampled_from(' "=\\\r\n\t\x85\u2028'))
NAMES = TEXTS.map(lambda text: text.replace("=", "")).filter(bool)


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(NAMES, TEXTS), st.sampled_from(["\n", "\r\n"]))
@example({"KEY": "-----BEGIN-----\nabc\n-----END-----\n", "JSON": '{\n "a": 1\n}', "PAD": "  two blanks "}, "\r\n")
def test_environment_variables_come_back_from_the_form_as_they_were(variables: dict[str, str], line_end: str) -> None:
    """Several lines, quotes, and blanks at either end included, whichever line ends a browser sends."""
    config = shown(environment_vars=variables) if variables else shown()
    rows = forms.shown(config)
    sent = replace(rows[0], environment=rows[0].environment.replace("\n", line_end))
    assert forms.config_body(forms.Form((sent, rows[1])), config) == config


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("A=1\n\n B = 2 ", {"A": "1", "B": " 2 "}), ("A", {"A": ""}), ("A=b=c", {"A": "b=c"}),
        (r'A="x\ny"', {"A": "x\ny"}), (r'A="\"x\""', {"A": '"x"'}), ('A="x', {"A": '"x'}), ("A='x'", {"A": "'x'"}),
        ('A="x" y', {"A": '"x" y'}), ("A=x\u2028y", {"A": "x\u2028y"}),
    ],
)  # fmt: skip
def test_environment_variables_are_read_as_they_are_typed(typed: str, meant: dict[str, str]) -> None:
    """All after the sign is the value, unless that is a JSON string."""
    entity = replace(forms.shown(shown())[0], environment=typed)
    body = forms.config_body(forms.Form((entity,)), None)
    assert body["served_entities"][0]["environment_vars"] == meant


def test_plain_values_are_shown_without_quotes() -> None:
    """Only what needs them has them."""
    variables = {"A": "ü b='c'", "B": "{{secrets/a/b}}", "C": "a\nb", "D": " x"}
    lines = forms.shown(shown(environment_vars=variables))[0].environment.splitlines()
    assert lines == ["A=ü b='c'", "B={{secrets/a/b}}", r'C="a\nb"', 'D=" x"']


def test_a_form_says_what_was_typed() -> None:
    """Unticked is off, an unnamed model gets a name, and what is no number is left for the API to refuse."""
    given = {
        "e0.model": "my churn",
        "e0.version": "@champion",
        "e0.percent": "ninety",
        "tags": "team = risk\ngold\n",
        "name": "n",
    }
    body = forms.create_body(forms.read(given, ["e0"]))
    (entity,) = body["config"]["served_entities"]
    assert (entity["name"], entity["entity_version"], entity["scale_to_zero_enabled"]) == (
        "my-churn-champion",
        "@champion",
        False,
    )
    assert body["config"]["traffic_config"]["routes"][0]["traffic_percentage"] == "ninety"
    assert body["tags"] == [{"key": "team", "value": "risk"}, {"key": "gold", "value": ""}]
    assert len(forms.read({}, [f"e{n}" for n in range(1000)]).entities) == forms.MOST_ROWS


def test_two_configs_are_compared_line_by_line() -> None:
    """What was added, removed, changed, and the shares of traffic."""
    (first, second) = changes(shown(), shown("4", 50))
    assert {(line.what, line.before, line.after) for line in first.lines} == {
        ("version", "3", "4"),
        ("traffic", "90 %", "50 %"),
    }
    assert (first.kind, second.kind) == ("changed", "changed")
    assert [each.kind for each in changes(None, shown())] == ["added", "added"]
    assert [each.kind for each in changes(shown(), shown())] == ["same", "same"]


def test_snippets_can_be_pasted() -> None:
    """A quote in the example does not end the shell's string, and a token is never in them."""
    ways = dict(snippets("http://h", "ep", {"inputs": ["it's"]}, with_token=True))
    assert "it'\\''s" in ways["curl"]
    assert "$WYE_TOKEN" in ways["curl"]
    compile(ways["Python SDK"], "sdk", "exec")
    compile(ways["MLflow"], "mlflow", "exec")
    assert "Bearer" not in dict(snippets("http://h", "ep", None, with_token=False))["curl"]
    assert "from_dict" in dict(snippets("http://h", "ep", {"dataframe_split": {}}, with_token=True))["Python SDK"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (ago(0, 3_000), "just now"), (ago(0, 90_000), "1 min ago"), (ago(0, 86_400_000 * 400), "1 y ago"), (ago(9, 0), "just now"),
        (rate(0), "–"), (rate(0.05), "< 0.1"), (rate(12.34), "12.3"), (rate(1234.5), "1,234"),
        (milliseconds(None), "–"), (milliseconds(0.31), "0.3 ms"), (milliseconds(31.4), "31 ms"), (milliseconds(3140), "3.1 s"),
        (percent(None), "–"), (percent(0.0), "0 %"), (percent(0.014), "1.4 %"), (percent(0.00001), "< 0.01 %"), (percent(1.0), "100 %"),
        (to(4, 8), "4 to 8"), (to("0", "8"), "0 to 8"), (to(4, ""), "4"), (to("", 8), "up to 8"),
        (pretty({"a": [1, 2]}), '{\n  "a": [1, 2]\n}'),
    ],
)  # fmt: skip
def test_numbers_read_well(written: str, read: str) -> None:
    """Times, rates, durations and parts, as people write them."""
    assert written == read
