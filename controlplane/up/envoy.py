"""Envoy's command line and bootstrap, from the one template that containers use too."""

from __future__ import annotations

import json
import string
from importlib import resources
from pathlib import Path

from controlplane.domain import Address
from controlplane.settings import Settings

#: The one Envoy that `wye up` runs.
NODE_ID = "wye-up"


def write_bootstrap(settings: Settings) -> Path:
    """Fill the bootstrap in for this machine and write it to the run directory."""
    filled = string.Template(_template()).substitute(
        WYE_NODE_ID=NODE_ID,
        WYE_ADMIN_ADDRESS=json.dumps({"pipe": {"path": str(admin_socket(settings)), "mode": 0o600}}),
        WYE_XDS_SOCKET=_address(Address.parse(settings.xds_address)),
    )
    path = settings.run_dir / "envoy.yaml"
    path.write_text(filled)
    return path


def admin_socket(settings: Settings) -> Path:
    """Where Envoy's admin interface listens: only its owner may use it, for it can do everything."""
    return settings.run_dir / "envoy-admin.sock"


def command(binary: str, settings: Settings, bootstrap: Path) -> list[str]:
    """How Envoy is started."""
    concurrency = ["--concurrency", str(settings.envoy_concurrency)] if settings.envoy_concurrency else []
    return [
        binary,
        *("-c", str(bootstrap)),
        *("--log-level", "warning"),
        *("--drain-time-s", "5"),
        "--disable-hot-restart",
        *concurrency,
    ]


def _address(where: Address) -> str:
    if where.path:
        return json.dumps({"pipe": {"path": where.path}})
    return json.dumps({"socket_address": {"address": where.host, "port_value": where.port}})


def _template() -> str:
    packaged = resources.files("controlplane") / "bootstrap.yaml"  # put there when a wheel is built
    if packaged.is_file():
        return packaged.read_text()
    return (Path(__file__).parents[2] / "envoy" / "bootstrap.yaml").read_text()
