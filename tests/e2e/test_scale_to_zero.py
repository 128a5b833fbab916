"""Scale to zero on real parts: idle entities have no process, and the request that comes is held and answered."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from tests.e2e.wye import Wye, config, until


@pytest.fixture(scope="module")
def wye(registry: str, short_dir: Any) -> Iterator[Wye]:
    """A Wye in which two seconds without a request are long."""
    running = Wye(short_dir / "sleepy", registry=registry, WYE_SCALE_TO_ZERO_AFTER="2")
    yield running
    assert running.stop() == 0


def sleepy(traffic: dict[str, int], **entities: str) -> dict[str, Any]:
    """A config whose entities may scale to zero."""
    body = config(traffic, **entities)
    for entity in body["served_entities"]:
        entity["scale_to_zero_enabled"] = True
    return body


def phases(wye: Wye, name: str) -> dict[str, str]:
    """Served entity → phase of its replica."""
    endpoint_id = wye.get(name)["id"]
    replicas = wye.client.get("/api/2.0/wye/status").json()["replicas"]
    return {each["served_entity"]: each["phase"] for each in replicas if each["endpoint_id"] == endpoint_id}


def test_an_idle_entity_has_no_process_and_the_next_request_is_answered(wye: Wye) -> None:
    """It sleeps after the idle time, says so, stays READY, and only the entity that is asked for wakes."""
    wye.create("naps", sleepy({"a": 100, "b": 0}, a="linear/1", b="other/1"))
    pids = set(wye.replicas().values())
    until(lambda: wye.sleeps("naps"), 30)
    until(lambda: not any(map(psutil.pid_exists, pids)), 10)
    endpoint = wye.get("naps")
    assert endpoint["state"]["ready"] == "READY"
    assert {e["state"]["deployment_state_message"] for e in endpoint["config"]["served_entities"]} == {"Scaled to zero"}
    assert wye.value("naps") == 21.0
    assert phases(wye, "naps")["b"] == "ASLEEP"
    assert wye.value("naps", "b") == 210.0


def test_a_hundred_first_requests_start_one_replica_and_are_all_answered(wye: Wye) -> None:
    """Nothing is refused and nothing is lost while the replica starts."""
    wye.create("crowd", sleepy({"m": 100}, m="linear/1"))
    until(lambda: wye.sleeps("crowd"), 30)
    with ThreadPoolExecutor(100) as clients:
        answers = list(clients.map(lambda _: wye.predict("crowd"), range(100)))
    assert {answer.status_code for answer in answers} == {200}, [a.text for a in answers if a.status_code != 200][:2]
    (replica,) = [
        r
        for r in wye.client.get("/api/2.0/wye/status").json()["replicas"]
        if r["endpoint_id"] == wye.get("crowd")["id"]
    ]
    assert replica["attempt"] == 2
