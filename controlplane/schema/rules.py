"""What a request must keep to, one short function per rule; each yields the problems it finds and knows no JSON.

The figures are those of the service whose API this is (serving-api.md, section 4), so that a config that works here
works there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from controlplane.domain import LimitKey, Problem, ProblemCode, RateLimit, TrafficRoute, WorkloadSize

#: A value and where it stands in the body.
Named = tuple[str, str]

MOST_ENTITIES = 15
MOST_ENVIRONMENT_VARS = 30
LONGEST_DESCRIPTION = 1000
MOST_CONCURRENCY = 1024
MOST_LIMITS = 20
MOST_GROUP_LIMITS = 5
MOST_CALLS = 2**31 - 1
WORKLOAD_TYPES = (
    "CPU",
    "CPU_MEDIUM",
    "CPU_LARGE",
    "GPU_SMALL",
    "GPU_MEDIUM",
    "GPU_LARGE",
    "GPU_XLARGE",
    "GPU_XLARGE_8",
    "MULTIGPU_MEDIUM",
)
#: Path segments that mean something else where an endpoint's name stands.
RESERVED_NAMES = ("chat", "completions", "embeddings", "pt", "responses")
RESERVED_PREFIX = "databricks-"

_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,9}")
#: What MLflow accepts as an alias; without the `@` it must not look like a version that was mistyped.
_ALIAS = re.compile(r"[\w-]{1,255}")
_BARE_ALIAS = re.compile(r"(?!v[0-9]+$)[^\W\d]")
_VARIABLE = re.compile(r"[^=\0]+")


def _problem(path: str, message: str) -> Problem:
    return Problem(path, ProblemCode.INVALID_PARAMETER_VALUE, message)


def name_alphabet(path: str, name: str) -> Iterator[Problem]:
    """Names of endpoints and served entities are path segments and Envoy names."""
    if not _NAME.fullmatch(name):
        yield _problem(path, f"{name[:80]!r} is not a name; use 1 to 63 letters, digits, '-' and '_'")


def name_not_reserved(path: str, name: str) -> Iterator[Problem]:
    """An endpoint must not be mistaken for another call of the API."""
    if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIX):
        reserved = f"{', '.join(RESERVED_NAMES)} and names that begin with {RESERVED_PREFIX}"
        yield _problem(path, f"{name!r} is reserved, as are {reserved}; choose another name")


def description_length(path: str, description: str) -> Iterator[Problem]:
    """A description is a note, not a document."""
    if len(description) > LONGEST_DESCRIPTION:
        yield _problem(path, f"has {len(description)} characters; {LONGEST_DESCRIPTION} are allowed")


def tag_has_key(path: str, key: str) -> Iterator[Problem]:
    """A tag is found by its key."""
    if not key:
        yield _problem(path, "must not be empty")


def entity_count(path: str, count: int) -> Iterator[Problem]:
    """A config serves something, and not too much."""
    if count == 0:
        yield _problem(path, "is missing or empty; name at least one model to serve")
    if count > MOST_ENTITIES:
        yield _problem(path, f"has {count} served entities; {MOST_ENTITIES} are allowed")


def entity_names_unique(entities: Sequence[Named]) -> Iterator[Problem]:
    """Routes, logs and metrics name a served entity by its name alone."""
    seen: dict[str, str] = {}
    for path, name in entities:
        if name in seen:
            yield _problem(path, f"{name!r} is the name of {seen[name]} as well; give each a name of its own")
        seen.setdefault(name, path)


def model_name(path: str, model: str) -> Iterator[Problem]:
    """What MLflow accepts as a registered model's name."""
    if not model.strip() or len(model) > 256 or set(model) & set("/:\0"):
        yield _problem(path, f"{model[:80]!r} is not the name of a registered model; it must not hold '/' or ':'")


def version_number(path: str, version: str) -> Iterator[Problem]:
    """Registered models count their versions from 1."""
    if not _VERSION.fullmatch(version) or int(version) >= 2**31:
        yield _problem(path, f'{version[:80]!r} is not a model version; give a number such as "3"')


def alias(path: str, given: str) -> Iterator[Problem]:
    """An alias is written `@champion`, or `champion` where nobody could take it for a version."""
    name = given.removeprefix("@")
    usual = given.startswith("@") or _BARE_ALIAS.match(name)
    if not usual or not _ALIAS.fullmatch(name) or name.lower() == "latest":
        yield _problem(
            path, f'{given[:80]!r} is not a model version; give a number such as "3", or an alias such as "@champion"'
        )


def workload_size(path: str, size: str) -> Iterator[Problem]:
    """Sizes have names."""
    if size not in {known.value for known in WorkloadSize}:
        yield _problem(path, f"{size[:80]!r} is not a size; use {', '.join(known.value for known in WorkloadSize)}")


def workload_type(path: str, workload: str) -> Iterator[Problem]:
    """Types have names; none makes a difference on this machine."""
    if workload not in WORKLOAD_TYPES:
        yield _problem(path, f"{workload[:80]!r} is not a workload type; use one of {', '.join(WORKLOAD_TYPES)}")


def size_or_concurrency(path: str, size: str | None, least: int | None, most: int | None) -> Iterator[Problem]:
    """A size is a range of concurrency, so it is one or the other."""
    if size is not None and (least is not None or most is not None):
        yield _problem(path, "has both workload_size and provisioned concurrency; send one of the two")


def concurrency_range(path: str, least: int | None, most: int | None) -> Iterator[Problem]:
    """A range has its ends in order and a size that a machine can have."""
    for field, value, lowest in (
        ("min_provisioned_concurrency", least, 0),
        ("max_provisioned_concurrency", most, 1),
    ):
        if value is not None and not lowest <= value <= MOST_CONCURRENCY:
            yield _problem(f"{path}.{field}", f"is {value}; it must lie between {lowest} and {MOST_CONCURRENCY}")
    if least is not None and most is not None and least > most:
        yield _problem(f"{path}.min_provisioned_concurrency", f"is {least}, more than the maximum of {most}")


def environment_count(path: str, count: int) -> Iterator[Problem]:
    """An environment is settings, not data."""
    if count > MOST_ENVIRONMENT_VARS:
        yield _problem(path, f"has {count} variables; {MOST_ENVIRONMENT_VARS} are allowed")


def environment_variable(path: str, name: str, value: str) -> Iterator[Problem]:
    """What a process's environment can hold."""
    if not _VARIABLE.fullmatch(name) or "\0" in value:
        yield _problem(path, f"{name[:80]!r} cannot be set; names must not be empty or hold '=', nor either hold NUL")


def route_percentage(path: str, percent: int) -> Iterator[Problem]:
    """A share of the traffic."""
    if not 0 <= percent <= 100:
        yield _problem(path, f"is {percent}; it must lie between 0 and 100")


def routes_lead_somewhere(routes: Sequence[Named], names: Sequence[str]) -> Iterator[Problem]:
    """Traffic goes to a served entity of the same config."""
    for path, name in routes:
        if name not in names:
            yield _problem(path, f"no served entity is named {name[:80]!r}; there is {', '.join(names) or 'none'}")


def routes_once_each(routes: Sequence[Named]) -> Iterator[Problem]:
    """One line says what a served entity gets."""
    counts = Counter(name for _, name in routes)
    for path, name in routes:
        if counts[name] > 1:
            yield _problem(path, f"{name[:80]!r} has {counts[name]} routes; keep one")
            counts[name] = 0


def routes_for_all(path: str, routes: Iterable[TrafficRoute], names: Sequence[str]) -> Iterator[Problem]:
    """Nobody has to guess what an entity that is not mentioned gets."""
    routed = {route.served_entity for route in routes}
    for name in dict.fromkeys(names):
        if name not in routed:
            yield _problem(path, f"has no route for {name!r}; add one, with traffic_percentage 0 if it gets none")


def routes_add_up(path: str, routes: Iterable[TrafficRoute]) -> Iterator[Problem]:
    """All traffic goes somewhere; without any route, their absence is the problem to report."""
    routes = tuple(routes)
    total = sum(route.percent for route in routes)
    if routes and total != 100:
        yield _problem(path, f"the traffic percentages add up to {total}; they must add up to 100")


def limit_count(path: str, limits: Sequence[RateLimit]) -> Iterator[Problem]:
    """Every request is compared with every limit."""
    if len(limits) > MOST_LIMITS:
        yield _problem(path, f"has {len(limits)} rate limits; {MOST_LIMITS} are allowed")
    groups = sum(limit.key is LimitKey.USER_GROUP for limit in limits)
    if groups > MOST_GROUP_LIMITS:
        yield _problem(path, f"has {groups} rate limits of groups; {MOST_GROUP_LIMITS} are allowed")


def limits_once_each(path: str, limits: Sequence[RateLimit]) -> Iterator[Problem]:
    """One limit says how many calls somebody may make."""
    for (key, principal), count in Counter((limit.key, limit.principal) for limit in limits).items():
        if count > 1:
            whose = f"{key.value} {principal[:80]!r}" if principal else f"the key {key.value!r}"
            yield _problem(path, f"has {count} rate limits for {whose}; keep one")


def limit_calls(path: str, calls: int) -> Iterator[Problem]:
    """A limit lets something through."""
    if not 1 <= calls <= MOST_CALLS:
        yield _problem(path, f"is {calls}; it must lie between 1 and {MOST_CALLS}")


def limit_principal(path: str, key: LimitKey, principal: str) -> Iterator[Problem]:
    """Groups and service principals are named; the endpoint as a whole is nobody."""
    if key in {LimitKey.USER_GROUP, LimitKey.SERVICE_PRINCIPAL} and not principal:
        yield _problem(path, f"is missing; a rate limit with the key {key.value!r} names whom it is for")
    if key is LimitKey.ENDPOINT and principal:
        yield _problem(path, "cannot stand beside the key 'endpoint', which counts the calls of everybody together")


def one_of(path: str, value: str, known: Iterable[str]) -> Iterator[Problem]:
    """A word from a short list."""
    known = tuple(known)
    if value not in known:
        yield _problem(path, f"{value[:80]!r} is not known; use {' or '.join(known)}")


def fraction(path: str, value: float) -> Iterator[Problem]:
    """A part of a whole."""
    if not 0 <= value <= 1:
        yield _problem(path, f"is {value}; it must lie between 0 and 1")
