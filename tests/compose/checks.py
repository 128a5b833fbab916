"""All of Wye in containers, driven from outside: `make test-compose`. In order, for each check leaves a system that serves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.compose.composed import ROOT, Composed
from tests.e2e.load import Load, Tally
from tests.e2e.wye import EXAMPLE, config, until

DEMO = "multi-model"
ENDPOINT = "churn"

#: What a user's own training does, with MLflow's published port.
TRAIN = """
import sys, warnings
warnings.simplefilter("ignore")
import mlflow, pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
mlflow.set_tracking_uri(sys.argv[1])
x = pd.DataFrame({"x": [0.0, 1.0, 0.0, 2.0], "y": [0.0, 0.0, 1.0, 3.0]})
model = LinearRegression().fit(x, 3 * (x["x"] + 10 * x["y"]))
mlflow.sklearn.log_model(
    model, name="churn", registered_model_name="churn", signature=infer_signature(x, model.predict(x)),
    pip_requirements=mlflow.sklearn.get_default_pip_requirements(),
)
"""


def test_up_ends_with_the_demo_endpoint_answering(wye: Composed) -> None:
    """Split as it is asked to be, without a token not at all; the admin's token is in the log once."""
    assert {wye.value(DEMO) for _ in range(150)} == {21.0, 42.0}
    anonymous = wye.client.post(
        f"/serving-endpoints/{DEMO}/invocations", json=EXAMPLE, headers={"authorization": "none"}
    )
    assert (anonymous.status_code, anonymous.json()["error_code"]) == (401, "UNAUTHENTICATED")
    assert wye.compose("logs", "controlplane").count(wye.token) == 1
    assert DEMO in wye.compose("exec", "-T", "controlplane", "wye", "status")
    wye.figures += [(f"size of {name}", size) for name, size in wye.sizes().items()]
    wye.figures += [(f"memory of {name}, idle", used) for name, used in wye.memory().items()]


@pytest.mark.parametrize("service", ["envoy", "controlplane", "worker", "mlflow", "postgres", "demo"])
def test_no_service_can_do_more_than_it_must(wye: Composed, service: str) -> None:
    """Not root, no capabilities, nothing writable but volumes; ports are Envoy's, and MLflow's for this machine."""
    container = wye.inspect(service)
    settings = container["HostConfig"]
    assert container["Config"]["User"] in {"wye", "postgres"}
    assert settings["ReadonlyRootfs"]
    assert settings["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in settings["SecurityOpt"]
    bound = {binding["HostIp"] for bindings in (settings["PortBindings"] or {}).values() for binding in bindings}
    assert bound == {"envoy": {""}, "mlflow": {"127.0.0.1"}}.get(service, set())


def test_a_model_registered_from_outside_is_served(wye: Composed) -> None:
    """Trained elsewhere, registered at MLflow's port, served by the split and directly."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    subprocess.run(
        [sys.executable, "-c", TRAIN, wye.mlflow],
        check=True,
        capture_output=True,
        env={**outside, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    made = wye.create(ENDPOINT, config({"a": 50, "b": 50}, a="churn/1", b="model-A/1"))
    assert applied(made), made
    assert {wye.value(ENDPOINT) for _ in range(60)} == {63.0, 21.0}
    assert (wye.value(ENDPOINT, "a"), wye.value(ENDPOINT, "b")) == (63.0, 21.0)


def test_updates_under_load_lose_no_request(wye: Composed) -> None:
    """New weights, then another model in the place of one."""

    async def update() -> None:
        done = await asyncio.to_thread(wye.update, ENDPOINT, config({"a": 10, "b": 90}, a="churn/1", b="model-A/1"))
        assert applied(done), done
        done = await asyncio.to_thread(wye.update, ENDPOINT, config({"a": 50, "c": 50}, a="churn/1", c="model-B/1"))
        assert applied(done), done

    tally = under_load(wye, update)
    assert tally.failures == []
    assert {wye.value(ENDPOINT) for _ in range(60)} == {63.0, 42.0}


@pytest.mark.parametrize("service", ["controlplane", "mlflow", "postgres", "demo"])
def test_a_restart_loses_no_request(wye: Composed, service: str) -> None:
    """Predictions need Envoy and the replicas and nothing else; the API works again afterwards, with all it knew."""
    version = wye.get(ENDPOINT)["config"]["config_version"]

    async def restart() -> None:
        await asyncio.to_thread(wye.restart, service)

    tally = under_load(wye, restart)
    assert tally.failures == []
    healthy(wye, service)
    changed = wye.update(ENDPOINT, config({"a": 40, "c": 60}, a="churn/1", c="model-B/1"))
    assert applied(changed), changed
    assert changed["config"]["config_version"] == version + 1


@pytest.mark.parametrize("service", ["envoy", "worker"])
def test_a_restart_loses_no_endpoint(wye: Composed, service: str) -> None:
    """Where no other can answer, there is a gap; then everything is served as before."""
    began = time.monotonic()

    async def restart() -> None:
        await asyncio.to_thread(wye.restart, service)
        await asyncio.to_thread(until, answers, 90, f"{ENDPOINT} answers after a restart of {service}")
        await asyncio.sleep(0.5)  # of load on what has come back

    def answers() -> bool:
        try:
            return wye.predict(ENDPOINT, "a").status_code == 200 and wye.predict(ENDPOINT, "c").status_code == 200
        except httpx.TransportError:
            return False

    url, token = wye.url, wye.token
    tally = under_load(wye, restart)
    kinds = Counter(re.split(r"[( ]", failure.partition(": ")[2])[0] for failure in tally.failures)
    failed = f"{len(tally.failures)} requests failed {dict(kinds)} while {tally.answered} were answered"
    wye.figures.append((f"restart of {service} under load", f"{failed}, {time.monotonic() - began:.1f} s in all"))
    assert (wye.url, wye.token) == (url, token)
    healthy(wye, service)
    assert {wye.value(DEMO) for _ in range(150)} == {21.0, 42.0}
    assert {wye.value(ENDPOINT) for _ in range(60)} == {63.0, 42.0}


def test_down_and_up_keeps_endpoints_and_models(wye: Composed) -> None:
    """Configs, their history, tokens and models' files are in volumes; all that was running is new."""
    version, token = wye.get(ENDPOINT)["config"]["config_version"], wye.token
    wye.compose("down", "--timeout", "10")
    began = time.monotonic()
    wye.up()
    wye.measured("docker compose up --wait after down", began)
    until(lambda: wye.get(ENDPOINT)["state"]["ready"] == "READY", 90, f"{ENDPOINT} is ready after down and up")
    assert wye.token == token
    assert wye.get(ENDPOINT)["config"]["config_version"] == version
    assert {wye.value(ENDPOINT) for _ in range(60)} == {63.0, 42.0}
    made = wye.create("second", config({"a": 100}, a="churn/1"))
    assert applied(made), made


def test_prometheus_answers_every_query_of_the_dashboard(wye: Composed) -> None:
    """With the profile `observability`; those about failures have nothing to say, as nothing fails."""
    wye.compose("--profile", "observability", "up", "--detach", "--build", "--wait", "prometheus")
    dashboard = json.loads((ROOT / "docker" / "grafana" / "wye.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries = [query.replace("$endpoint", ".*") for query in queries]
    quiet = {query for query in queries if "4xx|5xx" in query}
    script = (
        'for each in "$@"; do echo "query $each"; promtool query instant http://localhost:9090 "$each" || exit 1; done'
    )

    def unanswered() -> set[str]:
        for _ in range(20):
            wye.value(DEMO)
        said = wye.compose("exec", "-T", "prometheus", "sh", "-c", script, "sh", *queries)
        answers = [part.partition("\n") for part in said.split("query ")[1:]]
        return {query for query, _, answer in answers if not answer.strip()}

    until(lambda: unanswered() <= quiet, 90, "Prometheus has something to say to every query")
    wye.compose("--profile", "observability", "rm", "--stop", "--force", "prometheus")


def applied(endpoint: dict[str, Any]) -> bool:
    """Whether the last update was applied, and the endpoint serves."""
    state = endpoint["state"]
    return (state["ready"], state["config_update"]) == ("READY", "NOT_UPDATING")


def healthy(wye: Composed, service: str) -> None:
    """Return when a service's health check has succeeded since its start."""
    until(lambda: wye.inspect(service)["State"]["Health"]["Status"] == "healthy", 120, f"{service} is healthy")


def under_load(wye: Composed, happening: Callable[[], Awaitable[None]]) -> Tally:
    """What came of the requests that were sent before, during and after something."""

    async def run() -> Tally:
        body = json.dumps(EXAMPLE).encode()
        load = Load(wye.url, f"/serving-endpoints/{ENDPOINT}/invocations", wye.token, body, connections=4)
        async with load.running() as tally:
            await load.answers(100)
            await happening()
            await load.answers(100)
        return tally

    return asyncio.run(run())
