"""The xDS server against the real Envoy: what the protocol tests assume of Envoy, and what users are promised."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.discovery.session import Session
from controlplane.translate.resource import TypeUrl
from controlplane.translate.snapshot import Key
from tests.controlplane.discovery.rig import asynchronous
from tests.e2e.envoy_rig import (
    PATIENCE,
    Envoy,
    Load,
    Rig,
    Upstream,
    by_routes,
    by_scopes,
    cluster,
    endpoints,
    rig,
    routes,
    scope,
    until,
)

pytestmark = pytest.mark.e2e

DELTA, SOTW = "DELTA_GRPC", "GRPC"
BOTH = pytest.mark.parametrize("api_type", [DELTA, SOTW])


async def one_table(it: Rig, api_type: str = DELTA) -> tuple[Envoy, Upstream]:
    """An Envoy with one cluster `a`, and a route table `r` that sends everything to it."""
    upstream = await it.upstream("a")
    targets = it.publish(cluster("a"), endpoints("a", upstream), routes("r", a=1), by_routes(it.public, "r"))
    envoy = await it.envoy(api_type=api_type)
    await applied(it, targets)
    await until(it.public.exists)
    return envoy, upstream


async def two_endpoints(it: Rig) -> Envoy:
    """An Envoy with the endpoints `one` and `two`, each with a cluster of its name, found by scope."""
    resources = [by_scopes(it.public)]
    for name in ("one", "two"):
        upstream = await it.upstream(name)
        resources += [cluster(name), endpoints(name, upstream), routes(name, **{name: 1}), scope(name, [name])]
    targets = it.publish(*resources)
    envoy = await it.envoy()
    await applied(it, targets)
    await until(it.public.exists)
    return envoy


async def applied(it: Rig, targets: dict[Key, str | None]) -> None:
    """Wait until the targets are applied on every Envoy."""
    verdict = await it.hub.wait_applied(targets, PATIENCE)
    assert verdict.done, verdict


def session(it: Rig) -> Session:
    """The one stream there is."""
    (only,) = it.hub.sessions
    return only


def sent(it: Rig) -> dict[str, int]:
    """Type -> resources sent on the one stream there is."""
    (only,) = it.hub.envoys()
    return {each.type_url: each.resources_sent for each in only.types if each.resources_sent}


@BOTH
@asynchronous
async def test_changed_cluster_is_in_use_at_once(api_type: str) -> None:
    """A changed cluster is in use in milliseconds although its endpoints have not changed."""
    async with rig() as it:
        envoy, _ = await one_table(it, api_type)
        await it.apply(cluster("a", connectTimeout="2s"))
        assert await it.get() == (200, "a")
        assert await envoy.stat("cluster.a.init_fetch_timeout") == 0


@asynchronous
async def test_cluster_without_endpoints_is_in_use_at_once() -> None:
    """A cluster whose endpoints do not exist does not wait for them, and takes them when they come."""
    async with rig() as it:
        envoy, upstream = await one_table(it)
        await it.apply(cluster("late"), routes("r", late=1))
        assert (await it.get())[0] == 503
        await it.apply(endpoints("late", upstream))
        assert await it.get() == (200, "a")
        assert await envoy.stat("cluster.late.init_fetch_timeout") == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"transportSocket": {"name": "nothing"}}, "registered implementation for 'nothing'"),
        ({"connectTimeout": "0s"}, "ConnectTimeout"),
    ],
    ids=["refused by itself", "refused with all that came with it"],
)
@asynchronous
async def test_refused_cluster_holds_up_nothing_else(fields: dict[str, object], words: str) -> None:
    """Of clusters that are sent together only the bad one is rejected, in Envoy's words; the others are proven to be in use."""
    async with rig() as it:
        envoy, upstream = await one_table(it)
        good = [cluster(f"good{number}") for number in range(3)]
        filled = [endpoints(f"good{number}", upstream) for number in range(3)]
        bad = cluster("bad", **fields)
        targets = it.publish(*good[:2], bad, good[2], *filled, endpoints("bad"))
        verdict = await it.hub.wait_applied({(bad.type_url, "bad"): bad.version}, PATIENCE)
        (rejection,) = verdict.rejections
        assert (rejection.name, rejection.version, rejection.node_id) == ("bad", bad.version, "envoy-1")
        assert words in rejection.message
        del targets[bad.type_url, "bad"], targets[TypeUrl.ENDPOINTS, "bad"]
        await applied(it, targets | it.publish(routes("r", good0=1, good1=1, good2=1)))
        assert await it.get() == (200, "a")

        # Routes that need it are held back, others are not, and nobody tries again and again.
        held = it.publish(routes("r2", bad=1), routes("r", good1=1))
        await it.hub.wait_applied({(TypeUrl.ROUTES, "r"): held[TypeUrl.ROUTES, "r"]}, PATIENCE)
        rejected = await envoy.stat("cluster_manager.cds.update_rejected")
        await it.apply(cluster("good3"))
        assert await envoy.stat("cluster_manager.cds.update_rejected") == rejected
        await it.apply(cluster("bad"))
        assert it.hub.rejections == ()


@asynchronous
async def test_withdrawn_cluster_frees_an_envoy_that_waits_for_it() -> None:
    """Envoy warms a cluster for ever if it refuses it late, and answers nothing about clusters; withdrawing it helps."""
    async with rig() as it:
        envoy, upstream = await one_table(it)
        bad = cluster("bad", lbPolicy="RING_HASH", ringHashLbConfig={"minimumRingSize": 9, "maximumRingSize": 2})
        # Alone it would be refused at once; with others that warm it is never spoken of.
        stuck = it.publish(bad, cluster("good"), endpoints("good", upstream), routes("r", good=1))
        async with asyncio.timeout(PATIENCE):
            while await envoy.stat("cluster.good.membership_total") == 0:
                pass
        del stuck[TypeUrl.CLUSTER, "bad"]
        assert await it.get() == (200, "a"), "what serves goes on serving"
        it.publish(removed=[(TypeUrl.CLUSTER, "bad")])
        await applied(it, stuck)
        (status,) = it.hub.envoys()
        assert status.last_rejection is not None
        assert "minimum_ring_size" in status.last_rejection.message


@asynchronous
async def test_refused_change_keeps_what_serves() -> None:
    """A refused change of a cluster leaves the old one serving, and the cluster counts as usable."""
    async with rig() as it:
        await one_table(it)
        bad = cluster("a", transportSocket={"name": "nothing"})
        verdict = await it.hub.wait_applied(it.publish(bad), PATIENCE)
        assert [each.name for each in verdict.rejections] == ["a"]
        assert await it.get() == (200, "a")
        await it.apply(routes("r", a=7))


@BOTH
@asynchronous
async def test_swaps_under_load(api_type: str) -> None:
    """Fifteen times a new cluster takes over and the old one is removed: not one request fails, each swap takes a moment."""
    async with rig() as it:
        await one_table(it, api_type)
        async with Load(it.public, "/", 6) as load:
            before = "a"
            for number in range(15):
                name = f"v{number}"
                upstream = await it.upstream(name)
                await it.apply(
                    cluster(name),
                    endpoints(name, upstream),
                    routes("r", **{name: 1}),
                    removed=[(TypeUrl.CLUSTER, before), (TypeUrl.ENDPOINTS, before)],
                )
                await load.more(20)
                before = name
        assert set(load.statuses) == {200}
        assert load.bodies["v14"] >= 20


@asynchronous
async def test_weights_and_replicas_under_load() -> None:
    """Weights and endpoints change two hundred times: not one request fails."""
    async with rig() as it:
        _, first = await one_table(it)
        second = await it.upstream("b")
        await it.apply(cluster("b"), endpoints("b", second))
        async with Load(it.public, "/", 4) as load:
            for number in range(100):
                await it.apply(routes("r", a=number + 1, b=100 - number))
                await it.apply(endpoints("a", *((first, second) if number % 2 else (first,))))
        assert set(load.statuses) == {200}
        assert set(load.bodies) == {"a", "b"}


@asynchronous
async def test_scopes_choose_the_routes() -> None:
    """The first two segments of the path choose the routes, and an update of one endpoint sends only that one's."""
    async with rig() as it:
        await two_endpoints(it)
        assert await it.get("/serving-endpoints/one/invocations") == (200, "one")
        assert await it.get("/serving-endpoints/two/invocations?x=1") == (200, "two")
        assert (await it.get("/serving-endpoints/none/invocations"))[0] == 404
        before = sent(it)
        await it.apply(routes("one", two=1), scope("one", ["two"]))
        assert await it.get("/serving-endpoints/one/invocations") == (200, "two")
        after = sent(it)
        assert after == before | {TypeUrl.ROUTES: before[TypeUrl.ROUTES] + 1}


@asynchronous
async def test_scoped_endpoint_comes_and_goes_under_load() -> None:
    """Endpoints are added and deleted beside one under load: it never fails, and nothing of the others stays behind."""
    async with rig() as it:
        envoy = await two_endpoints(it)
        async with Load(it.public, "/serving-endpoints/one/invocations", 4) as load:
            for number in range(10):
                name = f"e{number}"
                upstream = await it.upstream(name)
                await it.apply(cluster(name), endpoints(name, upstream), routes(name, **{name: 1}), scope(name, [name]))
                assert await it.get(f"/serving-endpoints/{name}/invocations") == (200, name)
                gone: list[Key] = [
                    (TypeUrl.CLUSTER, name),
                    (TypeUrl.ENDPOINTS, name),
                    (TypeUrl.ROUTES, name),
                    (TypeUrl.SCOPE, name),
                ]
                await it.apply(removed=gone)
                assert (await it.get(f"/serving-endpoints/{name}/invocations"))[0] == 404
        assert set(load.statuses) == {200}
        assert await envoy.stat("cluster_manager.active_clusters") == 3  # one, two and the one to us
        subscription = session(it).subscription(TypeUrl.ROUTES)
        assert subscription is not None
        assert subscription.names == {"one", "two"}


@asynchronous
async def test_restarted_control_plane_sends_nothing_that_envoy_has() -> None:
    """After a restart of the control plane Envoy is sent no resource at all, and no request fails meanwhile."""
    async with rig() as it:
        envoy = await two_endpoints(it)
        everything = {
            (each.type_url, each.name): each.version
            for types in it.snapshot.resources.values()
            for each in types.values()
        }
        async with Load(it.public, "/serving-endpoints/one/invocations", 4) as load:
            await it.restart_server(it.snapshot)
            await applied(it, everything)
            await load.more(20)
        assert set(load.statuses) == {200}
        assert sent(it) == {}
        (status,) = it.hub.envoys()
        assert {each.type_url: each.responses_sent for each in status.types} == {
            TypeUrl.CLUSTER: 1,
            TypeUrl.ENDPOINTS: 0,
            TypeUrl.LISTENER: 1,
            TypeUrl.SCOPE: 1,
            TypeUrl.ROUTES: 0,
        }
        # What is skipped is safe to skip: the next change of a cluster brings its endpoints.
        await it.apply(cluster("one", connectTimeout="2s"))
        assert await envoy.stat("cluster.one.init_fetch_timeout") == 0
        assert await it.get("/serving-endpoints/one/invocations") == (200, "one")


@asynchronous
async def test_swap_while_the_control_plane_was_away() -> None:
    """A new cluster takes over and the old one goes while Envoy is not connected: catching up costs no request."""
    async with rig() as it:
        await two_endpoints(it)
        upstream = await it.upstream("new")
        async with Load(it.public, "/serving-endpoints/one/invocations", 4) as load:
            put = [cluster("new"), endpoints("new", upstream), routes("one", new=1), scope("one", ["new"])]
            gone: list[Key] = [(TypeUrl.CLUSTER, "one"), (TypeUrl.ENDPOINTS, "one")]
            await it.restart_server(it.snapshot.successor(put, gone))
            await applied(it, {(each.type_url, each.name): each.version for each in put} | dict.fromkeys(gone))
            await load.more(20)
        assert set(load.statuses) == {200}
        assert load.bodies["new"] >= 20


@asynchronous
async def test_stream_breaks_while_a_cluster_waits_for_endpoints() -> None:
    """An Envoy that was cut off between a changed cluster and its endpoints is not left to wait for them."""
    async with rig() as it:
        envoy, _ = await one_table(it)
        # The control plane dies at the worst moment: the changed cluster is out, its endpoints are not.
        only = session(it)
        changed = cluster("a", connectTimeout="2s")
        snapshot = it.snapshot.successor([changed])
        writes = only.next_response

        def next_response() -> object:
            response = writes()
            if response is not None and response.type_url == TypeUrl.CLUSTER:
                only.next_response = lambda: None  # type: ignore[method-assign]
            return response

        only.next_response = next_response  # type: ignore[method-assign,assignment]
        it.hub.publish(snapshot)
        async with asyncio.timeout(PATIENCE):
            while await envoy.stat("cluster_manager.warming_clusters") == 0:
                pass
        await it.restart_server(snapshot)
        await applied(it, {(TypeUrl.CLUSTER, "a"): changed.version})
        assert await envoy.stat("cluster.a.init_fetch_timeout") == 0
        assert await it.get() == (200, "a")


@asynchronous
async def test_pings_do_not_end_the_stream() -> None:
    """Envoy's keep-alive pings, ten times as frequent as recommended and more, leave the stream as it is."""
    async with rig() as it:
        upstream = await it.upstream("a")
        targets = it.publish(cluster("a"), endpoints("a", upstream), routes("r", a=1), by_routes(it.public, "r"))
        envoy = await it.envoy(keepalive=0.1)
        await applied(it, targets)
        only, began = session(it), await envoy.stat("server.uptime")
        async with asyncio.timeout(PATIENCE):
            while await envoy.stat("server.uptime") < began + 3:  # thirty pings; a default server takes two
                pass
        assert session(it) is only
        assert await envoy.stat("cluster.xds.upstream_cx_total") == 1
        assert await envoy.stat("control_plane.connected_state") == 1


@asynchronous
async def test_two_envoys() -> None:
    """Applied means applied on both; one that is lost still counts until it is known to be dead."""
    async with rig() as it:
        first, upstream = await one_table(it)
        second = await it.envoy("envoy-2")
        await until(lambda: len(it.hub.envoys()) == 2)
        await it.apply(routes("r", a=2))
        assert {each.node_id for each in it.hub.envoys()} == {"envoy-1", "envoy-2"}
        await second.stop()
        await until(lambda: len(it.hub.sessions) == 1)
        targets = it.publish(endpoints("a", upstream, upstream))
        await applied(it, targets)
        verdict = it.hub.applied(targets, include_lost=True)
        assert not verdict.done
        assert verdict.waiting == ("envoy-2 (connection lost): has not been sent endpoints a",)
        it.hub.forget("envoy-2")
        assert it.hub.applied(targets, include_lost=True).done
        assert await first.stat("control_plane.connected_state") == 1


@asynchronous
async def test_envoy_shows_our_versions() -> None:
    """What Envoy says it runs is what the hub says it has: the version of each resource is the one we gave."""
    async with rig() as it:
        envoy, _ = await one_table(it)
        resource = cluster("a", connectTimeout="2s")
        await it.apply(resource)
        (dumped,) = await envoy.dump("dynamic_active_clusters")
        assert dumped["version_info"] == resource.version
