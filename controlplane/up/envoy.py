"""Envoy's command line and bootstrap, from the one template that containers use too."""

from __future__ import annotations

import ipaddress
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
    control_planes = [Address.parse(each.strip()) for each in settings.control_planes.split(",")]
    filled = string.Template(_template()).substitute(
        WYE_NODE_ID=NODE_ID,
        WYE_ADMIN_ADDRESS=json.dumps({"pipe": {"path": str(admin_socket(settings)), "mode": 0o600}}),
        WYE_XDS_CLUSTER_TYPE="STATIC" if all(map(_is_fixed, control_planes)) else "STRICT_DNS",
        WYE_XDS_ENDPOINTS=json.dumps([{"endpoint": {"address": _address(each)}} for each in control_planes]),
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
        *("--file-flush-interval-msec", "1000"),  # of the access log; who looks at it waits no ten seconds
        "--disable-hot-restart",
        *concurrency,
    ]


def _is_fixed(where: Address) -> bool:
    """True when there is no name to be resolved."""
    try:
        return bool(where.path or ipaddress.ip_address(where.host))
    except ValueError:
        return False


def _address(where: Address) -> dict[str, object]:
    if where.path:
        return {"pipe": {"path": where.path}}
    return {"socket_address": {"address": where.host, "port_value": where.port}}


def _template() -> str:
    packaged = resources.files("controlplane") / "bootstrap.yaml"  # put there when a wheel is built
    if packaged.is_file():
        return packaged.read_text()
    return (Path(__file__).parents[2] / "envoy" / "bootstrap.yaml").read_text()
