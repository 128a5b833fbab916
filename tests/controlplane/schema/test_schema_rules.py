"""The rules, one table line per case: what is allowed and what is not."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from controlplane.domain import Problem, TrafficRoute
from controlplane.schema import rules


def said(problems: Iterable[Problem]) -> list[str]:
    """The problems as text."""
    return [str(problem) for problem in problems]


ROUTES = [TrafficRoute("a", 90), TrafficRoute("b", 10)]


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 63, "-", "pt-1", "databricks", "chat2"])
def test_good_endpoint_names(name: str) -> None:
    """Letters, digits, '-' and '_', up to 63 of them, that are not reserved."""
    assert said([*rules.name_alphabet("name", name), *rules.name_not_reserved("name", name)]) == []


@pytest.mark.parametrize("name", ["", "x" * 64, "a b", "a/b", "a.b", "é", "a\n", "a%2Fb", "\0"])
def test_names_of_other_characters(name: str) -> None:
    """Anything that is not a plain path segment is no name."""
    (problem,) = said(rules.name_alphabet("name", name))
    assert problem.startswith("name: ")


@pytest.mark.parametrize("name", ["pt", "chat", "completions", "embeddings", "responses", "databricks-dbrx"])
def test_reserved_names(name: str) -> None:
    """Path segments of other calls, and the prefix of the hosted service's own endpoints, are not for users."""
    (problem,) = said(rules.name_not_reserved("name", name))
    assert problem.startswith(f"name: '{name}' is reserved")


@pytest.mark.parametrize(
    ("problems", "message"),
    [
        (rules.description_length("d", "x" * 1000), None),
        (rules.description_length("d", "x" * 1001), "d: has 1001 characters; 1000 are allowed"),
        (rules.tag_has_key("t", "k"), None),
        (rules.tag_has_key("t", ""), "t: must not be empty"),
        (rules.entity_count("e", 15), None),
        (rules.entity_count("e", 16), "e: has 16 served entities; 15 are allowed"),
        (rules.entity_count("e", 0), "e: is missing or empty; name at least one model to serve"),
        (rules.entity_names_unique([("e[0]", "a"), ("e[1]", "b")]), None),
        (
            rules.entity_names_unique([("e[0]", "a"), ("e[1]", "a")]),
            "e[1]: 'a' is the name of e[0] as well; give each a name of its own",
        ),
        (rules.model_name("m", "main.prod.churn model"), None),
        (rules.model_name("m", " "), "m: ' ' is not the name of a registered model; it must not hold '/' or ':'"),
        (rules.model_name("m", "a/b"), "m: 'a/b' is not the name of a registered model; it must not hold '/' or ':'"),
        (rules.version_number("v", "12"), None),
        (rules.version_number("v", "0"), "v: '0' is not a model version; give a number such as \"3\""),
        (rules.version_number("v", "-1"), "v: '-1' is not a model version; give a number such as \"3\""),
        (
            rules.version_number("v", "2147483648"),
            "v: '2147483648' is not a model version; give a number such as \"3\"",
        ),
        (rules.version_number("v", ""), "v: '' is not a model version; give a number such as \"3\""),
        (rules.workload_size("s", "Large"), None),
        (rules.workload_size("s", "small"), "s: 'small' is not a size; use Small, Medium, Large"),
        (rules.workload_type("t", "MULTIGPU_MEDIUM"), None),
        (rules.size_or_concurrency("e", "Small", None, None), None),
        (rules.size_or_concurrency("e", None, 4, 8), None),
        (
            rules.size_or_concurrency("e", "Small", None, 8),
            "e: has both workload_size and provisioned concurrency; send one of the two",
        ),
        (rules.concurrency_range("e", 0, 1024), None),
        (rules.concurrency_range("e", 8, 4), "e.min_provisioned_concurrency: is 8, more than the maximum of 4"),
        (
            rules.concurrency_range("e", None, 1025),
            "e.max_provisioned_concurrency: is 1025; it must lie between 1 and 1024",
        ),
        (
            rules.concurrency_range("e", -1, None),
            "e.min_provisioned_concurrency: is -1; it must lie between 0 and 1024",
        ),
        (rules.environment_count("v", 30), None),
        (rules.environment_count("v", 31), "v: has 31 variables; 30 are allowed"),
        (rules.environment_variable("v", "A", "x=y"), None),
        (
            rules.environment_variable("v", "A=B", "x"),
            "v: 'A=B' cannot be set; names must not be empty or hold '=', nor either hold NUL",
        ),
        (
            rules.environment_variable("v", "A", "\0"),
            "v: 'A' cannot be set; names must not be empty or hold '=', nor either hold NUL",
        ),
        (rules.route_percentage("p", 0), None),
        (rules.route_percentage("p", 100), None),
        (rules.route_percentage("p", 101), "p: is 101; it must lie between 0 and 100"),
        (rules.route_percentage("p", -1), "p: is -1; it must lie between 0 and 100"),
        (rules.routes_lead_somewhere([("r[0]", "a")], ["a", "b"]), None),
        (
            rules.routes_lead_somewhere([("r[0]", "c")], ["a", "b"]),
            "r[0]: no served entity is named 'c'; there is a, b",
        ),
        (rules.routes_once_each([("r[0]", "a"), ("r[1]", "b")]), None),
        (rules.routes_once_each([("r[0]", "a"), ("r[1]", "a")]), "r[0]: 'a' has 2 routes; keep one"),
        (rules.routes_for_all("r", ROUTES, ["a", "b"]), None),
        (
            rules.routes_for_all("r", ROUTES, ["a", "b", "c"]),
            "r: has no route for 'c'; add one, with traffic_percentage 0 if it gets none",
        ),
        (rules.routes_add_up("r", ROUTES), None),
        (rules.routes_add_up("r", []), None),
        (rules.routes_add_up("r", ROUTES[:1]), "r: the traffic percentages add up to 90; they must add up to 100"),
    ],
)
def test_rules(problems: Iterable[Problem], message: str | None) -> None:
    """Each rule lets good values pass, and says of bad ones what to change."""
    assert said(problems) == ([] if message is None else [message])


def test_unknown_workload_types_are_listed() -> None:
    """Who mistypes a workload type reads which there are."""
    (problem,) = said(rules.workload_type("t", "TPU"))
    assert problem.startswith("t: 'TPU' is not a workload type; use one of CPU, CPU_MEDIUM")
