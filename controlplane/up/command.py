"""The command `wye up` itself."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from controlplane.settings import Settings


@click.command()
@click.option("--demo", is_flag=True, help="Register two small models and serve them at the endpoint multi-model.")
@click.option("--port", type=int, help="Public port; 0 picks a free one. [WYE_PORT; 8080]")
@click.option("--host", help="Address to listen on. [WYE_HOST; 127.0.0.1]")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where everything is kept. [WYE_STATE_DIR; .wye]")
@click.option(
    "--mlflow-uri", help="MLflow registry. [WYE_MLFLOW_URI, MLFLOW_TRACKING_URI; SQLite in the state directory]"
)
@click.option("--no-auth", is_flag=True, default=None, help="Serve without tokens; loopback only. [WYE_NO_AUTH]")
def up(
    demo: bool,
    port: int | None,
    host: str | None,
    state_dir: Path | None,
    mlflow_uri: str | None,
    no_auth: bool | None,
) -> None:
    """Start Envoy, the control plane and the worker host in the foreground; Ctrl-C stops them.

    Exit codes: 0 stopped as asked, 1 could not start (the reason is told in one line).
    """
    # Imported here, for `wye up --help` to answer at once.
    from controlplane.up.preflight import CannotStartError  # noqa: PLC0415
    from controlplane.up.stack import Stack  # noqa: PLC0415

    try:
        settings = Settings.read(
            os.environ, port=port, host=host, state_dir=state_dir, mlflow_uri=mlflow_uri, no_auth=no_auth
        )
        asyncio.run(Stack(settings, demo=demo).run())
    except (CannotStartError, ValueError) as error:
        raise click.ClickException(str(error)) from error
