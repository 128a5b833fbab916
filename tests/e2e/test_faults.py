"""What dies comes back, and takes no request with it that it did not have in hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.load import Load
from tests.e2e.wye import EXAMPLE, Wye, config, until
from tests.processes import alive

BODY = json.dumps(EXAMPLE).encode()


@pytest.fixture(scope="module")
def shaken(registry: str, short_dir: Path) -> Iterator[Wye]:
    """A Wye whose programs die one after another, and come back; each test removes its endpoints."""
    running = Wye(short_dir / "shaken", registry=registry, WYE_SCALE_TO_ZERO_AFTER="2", WYE_HANG_AFTER="6")
    yield running
    assert running.stop() == 0


def scaled_to_zero(body: dict[str, Any]) -> dict[str, Any]:
    """A config whose entities may sleep."""
    for entity in body["served_entities"]:
        entity["scale_to_zero_enabled"] = True
    return body


def load(wye: Wye, name: str, connections: int = 6) -> Load:
    """A load on an endpoint's split."""
    return Load(wye.url, f"/serving-endpoints/{name}/invocations", wye.token, BODY, connections)


def answers(wye: Wye) -> bool:
    """True when the control plane answers through Envoy."""
    try:
        return wye.client.get("/api/2.0/wye/status").status_code == 200
    except httpx.HTTPError:
        return False


def envoys(wye: Wye) -> list[dict[str, Any]]:
    """The connected Envoys as the control plane sees them."""
    return [envoy for envoy in wye.client.get("/api/2.0/wye/status").json()["envoys"] if envoy["connected"]]


def test_the_death_of_the_control_plane_is_not_noticed(shaken: Wye) -> None:
    """Kill -9 under load: no failed request; the new one adopts the same replicas and sends Envoy nothing it has."""
    wye = shaken
    wye.create("ep", config({"a": 50, "b": 50}, a="linear/1", b="other/1"))
    before = wye.replicas()
    under_load = load(wye, "ep")

    async def run() -> None:
        async with under_load.running():
            await under_load.answers(100)
            pid = wye.kill("controlplane")
            await under_load.answers(100)
            await asyncio.to_thread(until, lambda: wye.pid("controlplane") not in {None, pid} and answers(wye), 60)
            await asyncio.to_thread(until, lambda: envoys(wye), 60)
            await under_load.answers(300)

    asyncio.run(run())
    assert under_load.tally.failures == []
    assert wye.replicas() == before
    (envoy,) = envoys(wye)
    assert {
        each["type_url"].rsplit(".", 1)[1]: each["resources_sent"] for each in envoy["types"] if each["resources_sent"]
    } == {}
    updated = wye.update("ep", config({"a": 0, "b": 100}, a="linear/1", b="other/1"))
    assert updated["state"]["config_update"] == "NOT_UPDATING"
    assert wye.value("ep") == 210.0
    wye.remove("ep")


def test_a_killed_replica_takes_only_its_own_requests_along(
    shaken: Wye, record_property: Callable[[str, object], None]
) -> None:
    """At most the requests in that process fail, and the replacement answers."""
    wye = shaken
    wye.create("bereft", config({"m": 100}, m="linear/1"))
    ((replica, pid),) = wye.replicas("bereft").items()
    connections = 6
    under_load = load(wye, "bereft", connections)
    took = 0.0

    async def run() -> None:
        nonlocal took
        async with under_load.running():
            await under_load.answers(200)
            os.kill(pid, signal.SIGKILL)
            began = time.monotonic()
            await asyncio.to_thread(until, lambda: wye.replicas().get(replica, pid) != pid, 30)
            took = time.monotonic() - began
            await under_load.answers(200)

    asyncio.run(run())
    assert len(under_load.tally.failures) <= connections, under_load.tally.failures
    record_property("seconds until there was a replacement", took)
    wye.remove("bereft")


def test_the_end_of_the_worker_host_is_not_noticed(shaken: Wye) -> None:
    """Kill -9 and SIGSTOP under load: no failed request, the next host takes over the same processes, and updates go on.

    Who asks meanwhile for an entity that sleeps waits, and is answered when there is a host again.
    """
    wye = shaken
    wye.create("hosted", config({"a": 50, "b": 50}, a="linear/1", b="other/1"))
    wye.create("sleepy", scaled_to_zero(config({"m": 100}, m="linear/1")))
    before = wye.replicas("hosted")
    under_load = load(wye, "hosted")
    wakes = load(wye, "sleepy", connections=20)

    def taken_over(former: int) -> bool:
        status = wye.client.get("/api/2.0/wye/status").json()
        return wye.pid("worker_host") not in {None, former} and status["worker_host"]["connected"]

    async def run() -> None:
        async with under_load.running():
            await under_load.answers(100)
            for number in (signal.SIGKILL, signal.SIGSTOP):
                await asyncio.to_thread(until, lambda: wye.sleeps("sleepy"), 60)
                pid = wye.pid("worker_host")
                os.kill(pid, number)
                await wakes.requests(20)
                await under_load.answers(100)
                await asyncio.to_thread(until, lambda pid=pid: taken_over(pid), 60)
            await under_load.answers(300)

    asyncio.run(run())
    assert under_load.tally.failures == []
    assert wakes.tally.failures == []
    assert wakes.tally.answered == 40
    assert wye.replicas("hosted") == before, wye.log("worker_host")[-9000:]
    (one, *_) = before.items()
    os.kill(one[1], signal.SIGKILL)  # the new host notices it as the old one would have
    until(lambda: wye.replicas("hosted").get(one[0], one[1]) != one[1], 60)
    assert wye.update("hosted", config({"m": 100}, m="linear/2"))["state"]["config_update"] == "NOT_UPDATING"
    assert wye.value("hosted") == 42.0
    wye.remove("hosted")
    wye.remove("sleepy")


def test_a_killed_envoy_is_back_and_configured(shaken: Wye, record_property: Callable[[str, object], None]) -> None:
    """Kill -9 of Envoy: it is restarted, gets its configuration, and serves again."""
    wye = shaken
    wye.create("entered", config({"m": 100}, m="linear/1"))
    wye.kill("envoy")
    began = time.monotonic()

    def serves() -> bool:
        try:
            return wye.predict("entered").status_code == 200
        except httpx.HTTPError:
            return False

    until(serves, 30)
    record_property("seconds until Envoy served again", time.monotonic() - began)
    assert wye.update("entered", config({"m": 100}, m="linear/2"))["state"]["config_update"] == "NOT_UPDATING"
    wye.remove("entered")


def test_what_was_killed_is_restored_by_the_next_start(start: Callable[..., Wye]) -> None:
    """`wye up` itself killed: its programs serve on, and the next start ends them and serves the same endpoints.

    Everything killed, as by a power cut: the next start serves what was served. What slept sleeps, and answers.
    """
    wye = start(WYE_SCALE_TO_ZERO_AFTER="600")
    wye.create("ep", config({"a": 50, "b": 50}, a="linear/1", b="other/1"))
    wye.create("sleepy", scaled_to_zero(config({"m": 100}, m="linear/1")))
    token = wye.token
    wye.process.kill()
    wye.process.wait(10)
    assert wye.predict("ep").status_code == 200
    orphans = wye.processes()

    again = start(WYE_SCALE_TO_ZERO_AFTER="600")
    until(lambda: again.get("ep")["state"]["ready"] == "READY", 60)
    assert again.value("ep", "a") == 21.0
    assert not any(map(alive, orphans))
    for process in again.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # a fork server ends by itself when its host has
            process.kill()
    again.process.wait(10)

    third = start(WYE_SCALE_TO_ZERO_AFTER="600")
    assert third.token == token
    endpoint = until(lambda: (e := third.get("ep"))["state"]["ready"] == "READY" and e, 60)
    assert endpoint["config"]["config_version"] == 1
    assert third.value("ep", "b") == 210.0
    until(lambda: third.get("sleepy")["state"]["ready"] == "READY", 60)
    assert third.sleeps("sleepy")
    assert third.value("sleepy") == 21.0


def test_a_deleted_endpoint_leaves_nothing_running(shaken: Wye) -> None:
    """Deletion answers at once, the path is a 404, and the replicas' processes end; also in the midst of an update."""
    wye = shaken
    wye.create("deleted", config({"m": 100}, m="linear/1"))
    wye.client.put("/api/2.0/serving-endpoints/deleted/config", json=config({"m": 100}, m="linear/2"))
    assert wye.client.delete("/api/2.0/serving-endpoints/deleted").json() == {}
    until(lambda: wye.predict("deleted").status_code == 404)
    until(lambda: wye.client.get("/api/2.0/wye/status").json()["replicas"] == [], 30)


def test_a_model_that_keeps_crashing_says_so_and_comes_back(wye: Wye, tmp_path: Path) -> None:
    """New, its update fails with its last words; of a config that served, it is tried on and on until it works again."""
    trouble = tmp_path / "trouble"
    trouble.touch()
    document = config({"m": 100}, m="actor/1")
    document["served_entities"][0]["environment_vars"] = {"DIES_WHILE": str(trouble)}
    failed = wye.create("crashing", document)
    assert failed["state"]["config_update"] == "UPDATE_FAILED"
    (entity,) = failed["pending_config"]["served_entities"]
    assert entity["state"]["deployment"] == "DEPLOYMENT_FAILED"
    assert entity["state"]["deployment_state_message"].endswith("the scales have fallen off")

    trouble.unlink()
    assert wye.update("crashing", document)["state"] | {"suspend": ""} == {
        "ready": "READY",
        "config_update": "NOT_UPDATING",
        "suspend": "",
    }
    trouble.touch()
    ((_, pid),) = wye.replicas("crashing").items()
    os.kill(pid, signal.SIGKILL)

    def state() -> dict[str, str]:
        found: dict[str, str] = wye.get("crashing")["config"]["served_entities"][0]["state"]
        return found

    until(lambda: state()["deployment"] == "DEPLOYMENT_FAILED", 60)
    said = state()["deployment_state_message"]
    assert said.startswith("It has failed ")
    assert said.endswith("the scales have fallen off")

    def refused() -> bool:
        try:
            path = "/serving-endpoints/crashing/invocations"
            return wye.client.post(path, json={"inputs": [1]}, timeout=5).status_code == 503
        except httpx.ReadTimeout:
            return False  # Envoy had not been told yet, and holds it for the next attempt

    until(refused, 60)
    trouble.unlink()
    until(lambda: wye.get("crashing")["state"]["ready"] == "READY", 90)
    wye.client.delete("/api/2.0/serving-endpoints/crashing")
