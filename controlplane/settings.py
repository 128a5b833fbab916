"""Every setting: its meaning, unit and default, the variable that sets it. Read once, here, and passed down."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: A Unix socket's path may have 107 bytes; the names under the run directory need up to this many of them.
_LONGEST_SOCKET_NAME = 40


#: An access log that is not written.
OFF = "off"
_ENVIRONMENTS = ("auto", "local", "uv")


def _setting(default: Any, variable: str, meaning: str, *, unit: str = "", shown: str = "") -> Any:
    return field(default=default, metadata={"variable": variable, "meaning": meaning, "unit": unit, "shown": shown})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of the control plane and of `wye up`; empty addresses and URLs stand for the default told by `meaning`."""

    state_dir: Path = _setting(  # noqa: RUF009 - a path is immutable
        Path(".wye"), "WYE_STATE_DIR", "where databases, models of the embedded registry, keys and logs are"
    )
    host: str = _setting("127.0.0.1", "WYE_HOST", "address that the public port listens on")
    port: int = _setting(8080, "WYE_PORT", "the public port; 0 picks a free one")
    public_url: str = _setting(
        "",
        "WYE_PUBLIC_URL",
        "where a control plane that runs by itself writes down that commands beside it find Wye",
        shown="wye.json is not written",
    )
    no_auth: bool = _setting(False, "WYE_NO_AUTH", "serve without tokens; only on a loopback address")
    mlflow_uri: str = _setting(
        "",
        "WYE_MLFLOW_URI",
        "the MLflow registry; MLFLOW_TRACKING_URI is heeded too",
        shown="sqlite:///<state-dir>/mlflow.db",
    )
    database_url: str = _setting(
        "",
        "WYE_DATABASE_URL",
        "where endpoints are stored (SQLite or PostgreSQL)",
        shown="sqlite:///<state-dir>/wye.db",
    )
    database_patience: float = _setting(
        60.0,
        "WYE_DATABASE_PATIENCE",
        "how long a start waits for a database that does not answer (not for SQLite)",
        unit="seconds",
    )
    api_address: str = _setting(
        "", "WYE_API_ADDRESS", "where the control plane's REST API listens", shown="unix:<run-dir>/api.sock"
    )
    xds_address: str = _setting(
        "", "WYE_XDS_ADDRESS", "where the control plane listens for Envoys", shown="unix:<run-dir>/xds.sock"
    )
    name: str = _setting(
        "",
        "WYE_NAME",
        "what this control plane is called, where several share a database; no two may have the same",
        shown="<host name>-<process id>",
    )
    xds_advertise: str = _setting(
        "", "WYE_XDS_ADVERTISE", "where the others reach this one's WYE_XDS_ADDRESS", shown="WYE_XDS_ADDRESS"
    )
    api_advertise: str = _setting(
        "",
        "WYE_API_ADVERTISE",
        "where Envoy and the others reach this one's WYE_API_ADDRESS",
        shown="WYE_API_ADDRESS",
    )
    keys_dir: str = _setting(
        "",
        "WYE_KEYS_DIR",
        "where the keys are that sign tokens and encrypt secrets; the same for all control planes on one database",
        shown="<state-dir>/keys",
    )
    metrics_token_file: str = _setting(
        "",
        "WYE_METRICS_TOKEN_FILE",
        "where a token is written that may read the metrics and nothing else, for a Prometheus that has the file",
        shown="none is made",
    )
    control_planes: str = _setting(
        "",
        "WYE_CONTROL_PLANES",
        "where Envoy looks for control planes: what they have as WYE_XDS_ADDRESS, or reach it by; separated by commas",
        shown="WYE_XDS_ADDRESS",
    )
    worker_host_address: str = _setting(
        "", "WYE_WORKER_HOST_ADDRESS", "where the worker host listens", shown="unix:<run-dir>/host.sock"
    )
    envoy_admin_address: str = _setting(
        "",
        "WYE_ENVOY_ADMIN_ADDRESS",
        "where Envoy's admin interface is, which metrics are read from; several Envoys' with commas between",
        shown="unix:<run-dir>/envoy-admin.sock",
    )
    request_timeout: float = _setting(297.0, "WYE_REQUEST_TIMEOUT", "how long a prediction may take", unit="seconds")
    max_body: int = _setting(16, "WYE_MAX_BODY", "the largest body that a prediction may be asked with", unit="MB")
    queue: int = _setting(
        32, "WYE_QUEUE", "requests that a replica takes in hand in any case, those in the model included"
    )
    queue_seconds: float = _setting(
        0.5,
        "WYE_QUEUE_SECONDS",
        "it takes more as long as each can expect its answer within this time; others are refused with 429 at once",
        unit="seconds",
    )
    deploy_timeout: float = _setting(
        1200.0, "WYE_DEPLOY_TIMEOUT", "how long an update may take before it is given up", unit="seconds"
    )
    hang_after: float = _setting(
        15.0,
        "WYE_HANG_AFTER",
        "how long a replica may be silent before it is replaced (with requests in hand, this besides WYE_REQUEST_TIMEOUT); "
        "the same holds for the worker host, and for each of Wye's programs whose process is stopped",
        unit="seconds",
    )
    scale_to_zero_after: float = _setting(
        1800.0,
        "WYE_SCALE_TO_ZERO_AFTER",
        "how long nobody may have asked for an entity before it sleeps",
        unit="seconds",
    )
    scale_down_after: float = _setting(
        300.0,
        "WYE_SCALE_DOWN_AFTER",
        "how long the load must have been lower before replicas are given up",
        unit="seconds",
    )
    drain: float = _setting(
        1.0, "WYE_DRAIN", "how long replaced replicas go on after every Envoy has switched away", unit="seconds"
    )
    grace: float = _setting(
        300.0, "WYE_GRACE", "how long a replica that is stopped may finish what it has in hand", unit="seconds"
    )
    stop_grace: float = _setting(
        30.0,
        "WYE_STOP_GRACE",
        "how long requests in hand may take when Wye is told to stop; a second Ctrl-C cuts it short",
        unit="seconds",
    )
    envoy_lease: float = _setting(
        300.0,
        "WYE_ENVOY_LEASE",
        "how long an Envoy that is out of touch holds up the stopping of replicas",
        unit="seconds",
    )
    envoy_concurrency: int = _setting(0, "WYE_ENVOY_CONCURRENCY", "Envoy's worker threads; 0 is one per core")
    environments: str = _setting(
        "auto",
        "WYE_ENVIRONMENTS",
        "who gets a Python environment of its own, built by uv: auto (models whose requirements Wye's own does not meet), "
        "local (none), uv (all)",
    )
    environments_dir: str = _setting(
        "", "WYE_ENVIRONMENTS_DIR", "where those environments are kept", shown="<state-dir>/environments"
    )
    environments_days: float = _setting(
        30.0, "WYE_ENVIRONMENTS_DAYS", "how long one is kept that no served model has used", unit="days"
    )
    warm_environments: int = _setting(
        4,
        "WYE_WARM_ENVIRONMENTS",
        "how many of them stay imported though all their replicas sleep, the last used ones; waking a replica of another "
        "takes seconds",
    )
    artifacts_dir: str = _setting(
        "", "WYE_ARTIFACTS_DIR", "where copies of remote models are kept", shown="<state-dir>/artifacts-cache"
    )
    artifacts_megabytes: int = _setting(
        20480, "WYE_ARTIFACTS_MEGABYTES", "how much of those copies is kept when nothing uses them", unit="MB"
    )
    replicas_per_processor: int = _setting(
        8,
        "WYE_REPLICAS_PER_PROCESSOR",
        "most replicas of one served entity for each processor of the machine, whatever it asks for; 0 is any number",
    )
    share_megabytes: int = _setting(
        8,
        "WYE_SHARE_MEGABYTES",
        "models of at least this size are loaded once for all their replicas, where the flavour allows; 0 is none",
        unit="MB",
    )
    replica_memory: str = _setting(
        "4096,8192,16384",
        "WYE_REPLICA_MEMORY",
        "memory that a replica of workload size Small, Medium, Large may use before it is ended; 0 is no limit",
        unit="MB",
    )
    replica_cpus: str = _setting(
        "0,0,0", "WYE_REPLICA_CPUS", "processors that such a replica may run on; 0 is all of them"
    )
    replica_nice: int = _setting(
        0, "WYE_REPLICA_NICE", "how far replicas stand back for other programs, as for the command nice"
    )
    access_log: str = _setting(
        "",
        "WYE_ACCESS_LOG",
        "where Envoy writes a line of JSON for each request: a file, `stdout` (Envoy's own), or `off`",
        shown="<state-dir>/logs/access.log of `wye up`, else off",
    )
    access_log_megabytes: int = _setting(
        64, "WYE_ACCESS_LOG_MEGABYTES", "size at which `wye up` puts the access log aside, as access.log.1", unit="MB"
    )
    otlp_endpoint: str = _setting(
        "",
        "WYE_OTLP_ENDPOINT",
        "OpenTelemetry collector that traces are sent to by OTLP over HTTP, such as http://localhost:4318",
        shown="none: there are no traces",
    )
    trace_percent: float = _setting(
        100.0,
        "WYE_TRACE_PERCENT",
        "share of the requests that are traced, if their callers do not say",
        unit="per cent",
    )
    api_threads: int = _setting(16, "WYE_API_THREADS", "threads that answer the REST API")

    @classmethod
    def read(cls, environment: Mapping[str, str], **given: Any) -> Settings:
        """The settings: what is `given` (None counts as not given), else the environment's, else the default.

        Raises ValueError that names the variable when a value cannot be read.
        """
        values: dict[str, Any] = {}
        for each in fields(cls):
            variable = each.metadata["variable"]
            if given.get(each.name) is not None:
                values[each.name] = given[each.name]
            elif environment.get(variable):
                values[each.name] = _convert(variable, environment[variable], each.default)
        if "otlp_endpoint" in values:
            values["otlp_endpoint"] = values["otlp_endpoint"].rstrip("/")
        values["state_dir"] = Path(values.get("state_dir", cls.state_dir)).absolute()
        if not values.get("mlflow_uri"):
            values["mlflow_uri"] = environment.get("MLFLOW_TRACKING_URI", "")
        read = cls(**values)._filled()
        if read.no_auth and not _is_loopback(read.host):
            raise ValueError(
                f"--no-auth (WYE_NO_AUTH) is refused on {read.host}: anyone who can reach it could run models and change "
                "endpoints. Leave it away, or listen on 127.0.0.1 (--host, WYE_HOST)."
            )
        for name in ("replica_memory", "replica_cpus"):
            if re.fullmatch(r"\d+(,\d+,\d+)?", getattr(read, name)) is None:
                variable = next(each.metadata["variable"] for each in fields(cls) if each.name == name)
                raise ValueError(f"{variable}={getattr(read, name)!r}: say one number, or three: Small,Medium,Large.")
        if read.otlp_endpoint and not _is_collector(read.otlp_endpoint):
            raise ValueError(
                f"WYE_OTLP_ENDPOINT={read.otlp_endpoint!r}: say http://<host>:<port>; TLS is a local collector's task."
            )
        if not 0 <= read.trace_percent <= 100:
            raise ValueError(f"WYE_TRACE_PERCENT={read.trace_percent:g} is not from 0 to 100.")
        if read.environments not in _ENVIRONMENTS:
            raise ValueError(f"WYE_ENVIRONMENTS={read.environments!r}: say {', '.join(_ENVIRONMENTS)}.")
        return read

    def _filled(self) -> Settings:
        run = self.run_dir
        defaults = {
            "mlflow_uri": f"sqlite:///{self.state_dir}/mlflow.db",
            "database_url": f"sqlite:///{self.state_dir}/wye.db",
            "api_address": f"unix:{run}/api.sock",
            "xds_address": f"unix:{run}/xds.sock",
            "worker_host_address": f"unix:{run}/host.sock",
            "envoy_admin_address": f"unix:{run}/envoy-admin.sock",
            "environments_dir": f"{self.state_dir}/environments",
            "artifacts_dir": f"{self.state_dir}/artifacts-cache",
            "keys_dir": f"{self.state_dir}/keys",
        }
        for name, like in (
            ("control_planes", "xds_address"),
            ("xds_advertise", "xds_address"),
            ("api_advertise", "api_address"),
        ):
            defaults[name] = getattr(self, like) or defaults[like]
        return Settings(
            **{
                each.name: getattr(self, each.name) or defaults.get(each.name, getattr(self, each.name))
                for each in fields(self)
            }
        )

    def environment(self) -> dict[str, str]:
        """The variables that make another process read these same settings."""
        values = {each.metadata["variable"]: getattr(self, each.name) for each in fields(self)}
        return {
            name: ("1" if value else "") if isinstance(value, bool) else str(value) for name, value in values.items()
        }

    @property
    def run_dir(self) -> Path:
        """Where sockets and process ids are: under the state directory unless its path is too long for a socket's."""
        beside = self.state_dir / "run"
        if len(os.fsencode(beside)) + _LONGEST_SOCKET_NAME < 107:
            return beside
        digest = hashlib.blake2b(os.fsencode(self.state_dir), digest_size=6).hexdigest()
        return Path(tempfile.gettempdir()) / f"wye-{os.getuid()}-{digest}"

    @property
    def log_dir(self) -> Path:
        """Where the logs of Envoy, the control plane and the replicas are."""
        return self.state_dir / "logs"


def described() -> list[dict[str, str]]:
    """Each setting's variable, default, unit and meaning, for `wye settings`."""
    return [
        {
            "variable": each.metadata["variable"],
            "default": each.metadata["shown"] or str(each.default),
            "unit": each.metadata["unit"],
            "meaning": each.metadata["meaning"],
        }
        for each in fields(Settings)
    ]


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_collector(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0 and not parts.query + parts.fragment
    except ValueError:
        return False


def _convert(variable: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
            return text.lower() in {"1", "true", "yes", "on"}
        raise ValueError(f"{variable}={text!r}: say 1 or 0.")
    if isinstance(default, (int, float)):
        try:
            return type(default)(text)
        except ValueError:
            raise ValueError(f"{variable}={text!r} is not a number.") from None
    return text
