"""The registry and the database go away and come back: serving goes on, and nothing has to be restarted."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.gate import Gate
from tests.e2e.load import Load
from tests.e2e.wye import EXAMPLE, Wye, config, until
from tests.mlflow_server import mlflow_server
from tests.postgresql import PostgreSQL, server


@pytest.fixture
def postgres() -> Iterator[PostgreSQL]:
    """A server that is not started."""
    with server() as made:
        yield made


@pytest.fixture
def gate(registry: str, tmp_path: Path) -> Iterator[Gate]:
    """What leads to an MLflow server on the tests' registry."""
    with mlflow_server(registry, tmp_path, "--default-artifact-root", str(tmp_path)) as running:
        gate = Gate(int(running.url.rpartition(":")[2]))
        yield gate
        gate.close()


def refusal(answer: httpx.Response) -> str:
    """The words of a 503."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE"), answer.text
    assert answer.headers["retry-after"]
    return str(body["message"])


def update(wye: Wye, version: int) -> httpx.Response:
    """Ask for another version."""
    return wye.client.put("/api/2.0/serving-endpoints/ep/config", json=config({"m": 100}, m=f"linear/{version}"))


def control_plane_answers(wye: Wye) -> bool:
    """True when it answers as it should."""
    try:
        return wye.client.get("/api/2.0/wye/status").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.timeout(400)  # on a busy machine MLflow's server takes a minute to start
def test_serving_goes_on_without_registry_and_database(postgres: PostgreSQL, gate: Gate, short_dir: Path) -> None:
    """Calls that need what is away say so; all others, and every prediction, are answered; then all is well again.

    The database is away when Wye starts, too, and when the control plane is started again.
    """
    state_dir = Path(tempfile.mkdtemp(dir=short_dir))
    output = state_dir.parent / f"{state_dir.name}.out"
    with ThreadPoolExecutor(1) as starter:
        starting = starter.submit(
            Wye, state_dir, registry=f"http://127.0.0.1:{gate.port}", WYE_DATABASE_URL=postgres.url()
        )
        until(lambda: output.exists() and "waiting for the database: " in output.read_text(), 60)
        postgres.start()
        wye = starting.result()
    try:
        wye.create("ep", config({"m": 100}, m="linear/1"))
        load = Load(wye.url, "/serving-endpoints/ep/invocations", wye.token, json.dumps(EXAMPLE).encode(), 2)

        async def run() -> None:
            async with load.running():
                await asyncio.to_thread(scenario)

        def scenario() -> None:
            gate.close()
            assert f"registry at http://127.0.0.1:{gate.port} does not answer" in refusal(update(wye, 2))
            assert wye.get("ep")["state"]["ready"] == "READY"
            gate.open()
            assert update(wye, 2).status_code == 200
            assert wye.settled("ep")["state"]["config_update"] == "NOT_UPDATING"

            postgres.stop()
            assert refusal(update(wye, 3)).startswith("The database postgresql+psycopg://postgres@/postgres?host=")
            assert wye.get("ep")["state"]["ready"] == "READY"
            pid = wye.kill("controlplane")
            until(lambda: wye.pid("controlplane") not in {None, pid}, 60)
            until(lambda: "The database" in wye.client.get("/api/2.0/serving-endpoints").text, 60)
            refusal(update(wye, 3))
            postgres.start()
            until(lambda: control_plane_answers(wye), 60)
            until(lambda: update(wye, 3).status_code == 200, 60)
            assert wye.settled("ep")["state"]["config_update"] == "NOT_UPDATING"

        asyncio.run(run())
        assert load.tally.failures == []
        assert wye.value("ep") == 63.0
    finally:
        assert wye.stop() == 0
