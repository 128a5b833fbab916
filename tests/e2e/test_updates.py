"""Updates under load lose nothing, and a failed one changes nothing."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from pathlib import Path

import psutil

from tests.e2e.load import Load
from tests.e2e.wye import EXAMPLE, Wye, config, until

BODY = json.dumps(EXAMPLE).encode()
WEIGHT_CHANGES = 200
VERSION_SWAPS = 10


def load(wye: Wye, name: str, connections: int = 6) -> Load:
    """A load on an endpoint's split."""
    return Load(wye.url, f"/serving-endpoints/{name}/invocations", wye.token, BODY, connections)


def test_no_request_is_lost_by_weight_changes_and_version_swaps(wye: Wye) -> None:
    """A steady load, never retried by the client, sees no failure across 200 changes of weights and 10 of versions."""
    wye.create("busy", config({"a": 50, "b": 50}, a="linear/1", b="other/1"))

    under_load = load(wye, "busy")

    async def run() -> None:
        async with under_load.running():
            for number in range(WEIGHT_CHANGES):
                share = 1 + number % 99
                await asyncio.to_thread(
                    wye.update, "busy", config({"a": share, "b": 100 - share}, a="linear/1", b="other/1")
                )
            for number in range(VERSION_SWAPS):
                version = f"linear/{2 + number % 2}"
                updated = await asyncio.to_thread(
                    wye.update, "busy", config({"a": 50, "b": 50}, a=version, b="other/1")
                )
                assert updated["state"]["config_update"] == "NOT_UPDATING", updated

    asyncio.run(run())
    assert under_load.tally.failures == []
    assert under_load.tally.answered > 1000
    assert wye.get("busy")["config"]["config_version"] == 1 + WEIGHT_CHANGES + VERSION_SWAPS


def test_replaced_replicas_are_gone_after_a_swap(wye: Wye) -> None:
    """After a version swap the old replica's process ends, and the untouched entity's does not."""
    wye.create("swap", config({"a": 50, "b": 50}, a="linear/1", b="other/1"))
    before = {name: pid for name, pid in wye.replicas().items() if name.startswith(wye.get("swap")["id"][:8])}
    wye.update("swap", config({"a": 50, "b": 50}, a="linear/2", b="other/1"))
    old = next(pid for name, pid in before.items() if "-a-" in name)
    kept = next(pid for name, pid in before.items() if "-b-" in name)
    until(lambda: not psutil.pid_exists(old), what="the replaced replica is gone")
    assert kept in wye.replicas().values()


def test_a_model_that_does_not_load_changes_nothing(wye: Wye) -> None:
    """The old config answers throughout; the reason is the exception's own words; a later good update succeeds."""
    wye.create("tries", config({"m": 100}, m="linear/1"))
    under_load = load(wye, "tries", connections=2)

    async def run() -> dict[str, object]:
        async with under_load.running():
            return await asyncio.to_thread(wye.update, "tries", config({"m": 100}, m="broken/1"))

    failed = asyncio.run(run())
    assert failed["state"]["config_update"] == "UPDATE_FAILED"
    assert failed["state"]["ready"] == "READY"
    assert failed["config"]["config_version"] == 1
    (entity,) = failed["pending_config"]["served_entities"]
    assert entity["state"]["deployment"] == "DEPLOYMENT_FAILED"
    assert "the scaler's file is from another century" in entity["state"]["deployment_state_message"]
    assert under_load.tally.failures == []
    assert wye.value("tries") == 21.0

    mended = wye.update("tries", config({"m": 100}, m="linear/2"))
    assert mended["state"]["config_update"] == "NOT_UPDATING"
    assert wye.value("tries") == 42.0


def test_a_second_update_while_one_is_under_way_is_refused(wye: Wye, tmp_path: Path) -> None:
    """RESOURCE_CONFLICT until the first has ended; the answer to the first already says IN_PROGRESS."""
    wye.create("queue", config({"m": 100}, m="linear/1"))
    path = "/api/2.0/serving-endpoints/queue/config"
    loading = tmp_path / "loading"
    loading.touch()
    wanted = config({"m": 100}, m="actor/1")
    wanted["served_entities"][0]["environment_vars"] = {"LOADS_WHILE": str(loading)}
    first = wye.client.put(path, json=wanted)
    assert first.json()["state"]["config_update"] == "IN_PROGRESS"
    second = wye.client.put(path, json=config({"m": 100}, m="linear/3"))
    assert (second.status_code, second.json()["error_code"]) == (409, "RESOURCE_CONFLICT")
    loading.unlink()
    assert wye.settled("queue")["config"]["served_entities"][0]["entity_name"] == "actor"


def test_a_new_weight_is_in_force_at_once(wye: Wye) -> None:
    """From PUT to the first request under the new weights it takes far less than a second, and no worker restarts."""
    wye.create("quick", config({"a": 100, "b": 0}, a="linear/1", b="other/1"))
    before = wye.replicas("quick")
    took = []
    for number in range(20):
        target = "ba"[number % 2]
        split = {"a": 100, "b": 0} if target == "a" else {"a": 0, "b": 100}
        began = time.monotonic()
        wye.client.put("/api/2.0/serving-endpoints/quick/config", json=config(split, a="linear/1", b="other/1"))
        until(lambda target=target: wye.predict("quick").headers["served-model-name"] == target)
        took.append(time.monotonic() - began)
        wye.settled("quick")
    assert statistics.median(took) < 5.0, (
        "benchmarks/ measures it; this only notices that something waits for a timeout"
    )
    assert wye.replicas("quick") == before
