"""The 98 scenario runs of ii/xds-test-harness, under its names, so that results can be compared.

Where the harness waits for seconds to see that nothing more comes, we wait until nothing is under way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from controlplane.discovery.envoy_model import Received
from controlplane.discovery.messages import Variant
from tests.controlplane.discovery.rig import CDS, EDS, LDS, RDS, FakeEnvoy, World, asynchronous, resource, world

SERVICES = {"CDS": CDS, "LDS": LDS, "RDS": RDS, "EDS": EDS}


class Stage:
    """One client, one server, and what the client has received since it was last looked at."""

    def __init__(self, world: World, client: FakeEnvoy) -> None:
        self.world = world
        self.client = client
        self._seen = 0

    async def subscribe(self, service: str, names: str) -> None:
        await self.client.subscribe(SERVICES[service], *names.split(","))
        await self.world.quiesce()

    async def unsubscribe(self, service: str, name: str) -> None:
        await self.client.subscribe(SERVICES[service], unsubscribe=[name])
        await self.world.quiesce()

    def update(self, service: str, names: str) -> None:
        """Change these resources, or add them."""
        content = f"generation {self.world.snapshot.generation + 1}"
        self.world.put(*(resource(SERVICES[service], name, content) for name in names.split(",")))

    def remove(self, service: str, name: str) -> None:
        self.world.put(removed=[(SERVICES[service], name)])

    async def news(self, service: str) -> list[Received]:
        """The responses of one service since the last call, once nothing is under way."""
        await self.world.quiesce()
        news = [each for each in self.client.received[self._seen :] if each.type_url == SERVICES[service]]
        self._seen = len(self.client.received)
        return news

    async def gets(self, service: str, names: str, version: str, *, single: bool = False, only: bool = True) -> None:
        """The client received these resources at that version; `only`: and no others."""
        news = await self.news(service)
        received = {name for each in news for name in each.names if each.version == version}
        expected = set(names.split(","))
        assert received == expected if only else received >= expected
        for each in news:
            assert len(each.names) == len(set(each.names)), "no resource comes twice in a response"
            assert each.version == version
        if single:
            assert len(news) == 1

    async def silence(self, service: str) -> None:
        assert await self.news(service) == []

    async def no_more_than_necessary(self) -> None:
        """The last thing said was an ACK, and it was left at that."""
        await self.world.quiesce()
        assert self.client.requests_sent > self.client.responses_received


Steps = Callable[[Stage, str], Awaitable[None]]


async def wildcard(stage: Stage, service: str) -> None:
    """All resources, in one response."""
    names = "A,B,C" if service == "CDS" else "D,E,F"
    stage.update(service, names)
    await stage.client.subscribe(SERVICES[service])
    await stage.gets(service, names, "1", single=True)


async def wildcard_updates(stage: Stage, service: str) -> None:
    """One of them changes: all again."""
    await wildcard(stage, service)
    stage.update(service, "A" if service == "CDS" else "D")
    await stage.gets(service, "A,B,C" if service == "CDS" else "D,E,F", "2", single=True)


async def wildcard_additions(stage: Stage, service: str) -> None:
    """One is added: all again."""
    await wildcard(stage, service)
    stage.update(service, "G")
    await stage.gets(service, "A,B,C,G" if service == "CDS" else "D,E,F,G", "2", single=True)


async def specific(stage: Stage, service: str) -> None:
    """Some by name: those and no others."""
    stage.update(service, "G,B,L,D")
    await stage.subscribe(service, "L,G")
    await stage.gets(service, "L,G", "1")


async def specific_change_all(stage: Stage, service: str) -> None:
    """One of some changes: all of them again, for a type whose responses are complete."""
    stage.update(service, "A,B,C,D")
    await stage.subscribe(service, "B,D")
    await stage.gets(service, "B,D", "1", single=True)
    stage.update(service, "B")
    await stage.gets(service, "B,D", "2", single=True)


async def specific_change(stage: Stage, service: str) -> None:
    """One of some changes: at least that one."""
    stage.update(service, "A,B,C,D")
    await stage.subscribe(service, "B,D")
    await stage.gets(service, "B,D", "1")
    stage.update(service, "B")
    await stage.gets(service, "B", "2", only=False)


async def created_all(stage: Stage, service: str) -> None:
    """A name that does not exist yet: all that were asked for once it does."""
    stage.update(service, "A,B,C,D")
    await stage.subscribe(service, "A,Z")
    await stage.gets(service, "A", "1")
    stage.update(service, "Z")
    await stage.gets(service, "A,Z", "2", single=True)


async def created(stage: Stage, service: str) -> None:
    """A name that does not exist yet: at least that one once it does."""
    stage.update(service, "A,B,C,D")
    await stage.subscribe(service, "A,Z")
    await stage.gets(service, "A", "1")
    stage.update(service, "Z")
    await stage.gets(service, "Z", "2", only=False)


async def several_services(stage: Stage, services: str) -> None:
    """Two types on one stream, one after the other."""
    one, other = services.split("+")
    stage.update(one, "A,B,C")
    stage.update(other, "A,B,C")
    await stage.subscribe(one, "B")
    await stage.gets(one, "B", "2")
    await stage.subscribe(other, "B")
    await stage.gets(other, "B", "2")
    stage.update(one, "B")
    await stage.gets(one, "B", "3")


async def shrink(stage: Stage, service: str) -> None:
    """Fewer names than before, then a change."""
    stage.update(service, "G,B,L,D")
    await stage.subscribe(service, "B,D")
    await stage.gets(service, "B,D", "1")
    await stage.subscribe(service, "B")
    stage.update(service, "B")
    await stage.gets(service, "B", "2")


async def unsubscribe_all(stage: Stage, service: str) -> None:
    """No names any more, then a change that is none of its business."""
    stage.update(service, "A,B,C,D")
    await stage.subscribe(service, "A,B")
    await stage.gets(service, "A,B", "1")
    await stage.subscribe(service, "")  # one empty name, which is how the harness says "none"
    stage.update(service, "A,B")
    await stage.silence(service)


async def one_after_the_other(stage: Stage, service: str) -> None:
    """One name more."""
    stage.update(service, "D,E,F")
    await stage.subscribe(service, "D")
    await stage.gets(service, "D", "1")
    await stage.subscribe(service, "E")
    await stage.gets(service, "E", "1")


async def only_that_resource(stage: Stage, service: str) -> None:
    """A change brings only what changed, under a nonce of its own."""
    stage.update(service, "A,B,C")
    await stage.subscribe(service, "A,B,C")
    first = await stage.news(service)
    assert [each.names for each in first] == [("A", "B", "C")]
    stage.update(service, "A")
    second = await stage.news(service)
    assert [(each.names, each.version) for each in second] == [(("A",), "2")]
    assert second[0].nonce != first[0].nonce


async def told_missing(stage: Stage, service: str) -> None:
    """A name that does not exist is told, and sent once it does."""
    stage.update(service, "D")
    await stage.subscribe(service, "D,E")
    first = await stage.news(service)
    assert [(each.names, each.removed, each.version) for each in first] == [(("D",), ("E",), "1")]
    stage.update(service, "E")
    second = await stage.news(service)
    assert [(each.names, each.version) for each in second] == [(("E",), "2")]
    assert second[0].nonce != first[0].nonce


async def told_removed(stage: Stage, service: str) -> None:
    """A removal is told, and so is the return."""
    stage.update(service, "D,E")
    await stage.subscribe(service, "D,E")
    await stage.gets(service, "D,E", "1")
    stage.remove(service, "E")
    news = await stage.news(service)
    assert [(each.names, each.removed) for each in news] == [((), ("E",))]
    stage.update(service, "E")
    await stage.gets(service, "E", "3")


async def unsubscribe_one_by_one(stage: Stage, service: str) -> None:
    """What was given up is not heard of again."""
    stage.update(service, "D,E")
    await stage.subscribe(service, "D,E")
    await stage.gets(service, "D,E", "1")
    for name in ("E", "D"):
        await stage.unsubscribe(service, name)
        stage.update(service, name)
        await stage.silence(service)


async def interleaved(stage: Stage, services: str) -> None:
    """Two types on one stream, changing in turns."""
    one, other = services.split("+")
    stage.update(one, "A,B")
    stage.update(other, "A,B")
    await stage.subscribe(one, "A")
    await stage.gets(one, "A", "2")
    await stage.subscribe(other, "B")
    await stage.gets(other, "B", "2")
    stage.update(one, "A")
    await stage.gets(one, "A", "3")
    stage.update(other, "B")
    await stage.gets(other, "B", "4")
    stage.update(one, "B")
    await stage.silence(one)


@dataclass(frozen=True)
class Scenario:
    """A scenario of the harness, the services it is run for, and whether it needs the aggregated service."""

    name: str
    variant: Variant
    services: tuple[str, ...]
    steps: Steps
    aggregated_only: bool = False


FULL, PARTIAL, ALL = ("CDS", "LDS"), ("RDS", "EDS"), ("CDS", "LDS", "RDS", "EDS")
SOTW, DELTA = Variant.SOTW, Variant.DELTA
SUBSET = "When subscribing to specific resources, receive only these resources"
CHANGE = "When subscribing to specific resources, receive response when those resources change"
CREATED = "When subscribing to resources that don't exist, receive response when they are created"
SHRINK = "Client can unsubcribe from some resources"

SCENARIOS = (
    Scenario("The service should send all resources on a wildcard request.", SOTW, FULL, wildcard),
    Scenario("The service should send updates to the client", SOTW, FULL, wildcard_updates),
    Scenario("Wildcard subscriptions receive updates when new resources are added", SOTW, FULL, wildcard_additions),
    Scenario(SUBSET, SOTW, ("LDS", "RDS"), specific),
    Scenario(CHANGE, SOTW, FULL, specific_change_all),
    Scenario(CHANGE, SOTW, PARTIAL, specific_change),
    Scenario(CREATED, SOTW, FULL, created_all),
    Scenario(CREATED, SOTW, PARTIAL, created),
    Scenario(SHRINK, SOTW, FULL, shrink),
    Scenario(SHRINK, SOTW, PARTIAL, shrink),
    Scenario("Client can unsubscribe from all resources", SOTW, ALL, unsubscribe_all),
    Scenario("Client can subscribe to multiple services via ADS", SOTW, ("CDS+LDS", "RDS+EDS"), several_services, True),
    Scenario(SUBSET, DELTA, ("LDS", "RDS"), specific),
    Scenario("Subscribe to resources one after the other", DELTA, ALL, one_after_the_other),
    Scenario("When a resource is updated, receive response for only that resource", DELTA, ALL, only_that_resource),
    Scenario("Client is told if resource does not exist, and is notified if it is created", DELTA, ALL, told_missing),
    Scenario("Client is told when a resource is removed via removed_resources field", DELTA, ALL, told_removed),
    Scenario("Client can incrementally unsubscribe from resources", DELTA, ALL, unsubscribe_one_by_one),
    Scenario(
        "Client can subscribe to multiple services via ADS",
        DELTA,
        ("CDS+LDS", "LDS+CDS", "RDS+EDS", "EDS+RDS"),
        interleaved,
        True,
    ),
)

RUNS = [
    pytest.param(
        scenario,
        service,
        aggregated,
        id=f"{'sotw' if scenario.variant is SOTW else 'incremental'}-{'aggregated' if aggregated else 'non-aggregated'}-[{service}] {scenario.name}",
    )
    for scenario in SCENARIOS
    for service in scenario.services
    for aggregated in ((True,) if scenario.aggregated_only else (False, True))
]


def test_there_are_as_many_runs_as_in_the_harness() -> None:
    """The table has the harness's 98 scenario runs."""
    assert len(RUNS) == 98


@pytest.mark.parametrize(("scenario", "service", "aggregated"), RUNS)
@asynchronous
async def test_harness(scenario: Scenario, service: str, aggregated: bool) -> None:
    """The server does what the harness expects in this scenario."""
    async with world() as it:
        only_type = None if aggregated else SERVICES[service]
        client = FakeEnvoy(it.address, "test-id", variant=scenario.variant, only_type=only_type)
        stage = Stage(it, await it.connect(client))
        await scenario.steps(stage, service)
        await stage.no_more_than_necessary()
