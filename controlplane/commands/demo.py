"""`wye demo`: two small models and an endpoint that splits requests between them, for a Wye that runs already."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TypeVar

import click

from controlplane import demo as models
from controlplane.clock import SystemClock
from controlplane.commands.client import Client, Json
from controlplane.commands.connection import recorded_registry
from controlplane.commands.failures import Failure, Refused, UpdateFailed
from controlplane.commands.output import write
from controlplane.commands.session import Session, connected
from controlplane.commands.view import endpoint_view
from controlplane.commands.wait import Verdict, failure_message, progress, settle

#: Seconds between two tries while Wye, its registry or the endpoint's replicas are only starting.
PAUSE = 0.25

T = TypeVar("T")


@click.command()
@click.option(
    "--mlflow-uri",
    envvar=["WYE_MLFLOW_URI", "MLFLOW_TRACKING_URI"],
    show_envvar=True,
    metavar="URI",
    help="The MLflow registry that Wye asks; that of the state directory by default.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=180.0,
    show_default=True,
    metavar="SECONDS",
    help="How long Wye may take to come up, and the endpoint to answer.",
)
@connected
def demo(session: Session, *, mlflow_uri: str | None, timeout: float) -> None:
    """Register two small models and serve them at multi-model.

    Returns when the endpoint has answered. What is there already is left as it is. Needs MLflow and scikit-learn.
    """
    deadline = time.monotonic() + timeout
    registry = _patiently(lambda: mlflow_uri or recorded_registry(session.state_dir), deadline)
    models.prepare()
    models.register(registry, (session.state_dir / "artifacts").absolute())
    with _patiently(session.client, deadline) as client:
        _patiently(lambda: _create(client, deadline), deadline)
        answer = _patiently(lambda: _ask(client), deadline)
    session.tell(
        answer, lambda: write(f"{models.ENDPOINT} answers {json.dumps(models.EXAMPLE)} with {json.dumps(answer)}")
    )


def _create(client: Client, deadline: float) -> None:
    try:
        made = client.create({"name": models.ENDPOINT, "config": models.CONFIG})
    except Refused as refused:
        if refused.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return
    left = max(0.0, deadline - time.monotonic())
    with progress() as seen:
        ended, verdict = settle(
            made, lambda: client.get(models.ENDPOINT), timeout=left, clock=SystemClock(), sleep=time.sleep, seen=seen
        )
    if verdict is not Verdict.APPLIED:
        raise UpdateFailed(failure_message(endpoint_view(ended)))


def _ask(client: Client) -> Json:
    content = json.dumps(models.EXAMPLE).encode()
    return client.query(models.ENDPOINT, content, "application/json", None, 30.0).body


def _patiently(attempt: Callable[[], T], deadline: float) -> T:
    """What `attempt` comes to, tried again while its failure may pass and there is time."""
    while True:
        try:
            return attempt()
        except Failure as failure:
            if not failure.passing or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE)
