"""The worker host's command line, from the settings: for `wye up`, and for a container that runs the host alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from controlplane.domain import Address
from controlplane.settings import Settings


def command(settings: Settings) -> list[str]:
    """How the worker host is started."""
    listen = Address.parse(settings.worker_host_address)
    # Whoever may speak to the host may speak to its replicas: their sockets are beside its own.
    sockets = Path(listen.path).parent if listen.path else settings.run_dir
    host = [sys.executable, "-m", "model_worker.host", "--listen", str(listen), "--socket-dir", str(sockets)]
    host += ["--log-dir", str(settings.log_dir / "replicas"), "--stop-grace", str(settings.stop_grace)]
    host += ["--environments", settings.environments, "--environments-dir", settings.environments_dir]
    host += ["--environments-days", str(settings.environments_days)]
    host += ["--warm-environments", str(settings.warm_environments)]
    host += ["--artifacts-dir", settings.artifacts_dir]
    host += ["--artifacts-megabytes", str(settings.artifacts_megabytes)]
    host += ["--memory", settings.replica_memory, "--cpus", settings.replica_cpus]
    host += ["--share-megabytes", str(settings.share_megabytes)]
    host += ["--nice", str(settings.replica_nice), "--collector", settings.otlp_endpoint]
    host += ["--queue", str(settings.queue), "--queue-seconds", str(settings.queue_seconds)]
    host += ["--watchdog", str(settings.hang_after), "--hang-after", str(settings.hang_after)]
    host += ["--load-timeout", str(settings.deploy_timeout), "--request-timeout", str(settings.request_timeout)]
    host += ["--max-body", str(settings.max_body << 20)]
    return host


def variables(settings: Settings) -> Mapping[str, str]:
    """What it needs in its environment besides."""
    # A registry's `mlflow-artifacts:` URIs name no server; MLflow takes the one that it is told to track with.
    return {"MLFLOW_TRACKING_URI": settings.mlflow_uri}


@click.command()
def worker_host() -> None:
    """Run the worker host alone, as a container does.

    It heeds the settings of the environment. This command becomes the host: process id, signals and exit code are its own.
    """
    try:
        settings = Settings.read(os.environ)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    line = command(settings)
    os.execve(line[0], line, {**os.environ, **variables(settings)})  # noqa: S606 - our own command line
