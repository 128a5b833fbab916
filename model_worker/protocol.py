"""What the worker host and a control plane say to each other: `protocol.md` in code. Values only, no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: Said in the hello; it changes when an old peer would misunderstand a new one.
VERSION = 1

#: A longer line is a mistake or an attack; environment variables and log excerpts fit many times over.
MAX_LINE = 16 * 1024 * 1024

STARTING = "STARTING"
READY = "READY"
FAILED = "FAILED"
STOPPING = "STOPPING"
ASLEEP = "ASLEEP"

#: Kinds of logs.
OUTPUT = "output"
BUILD = "build"


class ProtocolError(Exception):
    """A message that cannot be obeyed; its text tells the sender what to change."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run: the host reads nothing but these fields, and gives `identity` back as it came."""

    id: str
    artifact_uri: str
    title: str = ""
    entity_name: str = ""
    entity_version: str = ""
    environment_vars: tuple[tuple[str, str], ...] = ()
    identity: Any = None
    #: `Small`, `Medium` or `Large`: how much of the machine it may take.
    workload_size: str = ""
    #: Begin ASLEEP: listen, and make a process when somebody connects.
    asleep: bool = False

    def to_json(self) -> dict[str, Any]:
        """The spec as `start` carries it."""
        return {**asdict(self), "environment_vars": dict(self.environment_vars)}


@dataclass(frozen=True, slots=True)
class Acting:
    """From now on nobody with a smaller epoch is obeyed."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Start:
    """Run this replica; nothing changes if it runs already."""

    spec: Spec
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """End this replica within `grace` seconds; nothing changes if there is none."""

    id: str
    grace: float
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Sleep:
    """End this replica's process within `grace` seconds, and make another when somebody connects; only if it is READY."""

    id: str
    grace: float
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Logs:
    """Answer with the last lines that this replica printed (`output`), or of how its environment was made (`build`)."""

    id: str
    lines: int
    request: int
    kind: str = OUTPUT


Command = Acting | Start | Stop | Sleep | Logs


@dataclass(frozen=True, slots=True)
class State:
    """A replica as the host sees it now."""

    spec: Spec
    phase: str
    #: `{"path": …}` or `{"host": …, "port": …}`; None until it listens.
    address: Mapping[str, Any] | None = None
    pid: int | None = None
    message: str = ""
    permanent: bool = False
    attempt: int = 1
    holds_connections: bool = False

    def to_json(self) -> dict[str, Any]:
        """The state as it is sent: the spec's identity is echoed, its environment is not."""
        return {
            "id": self.spec.id,
            "identity": self.spec.identity,
            "title": self.spec.title,
            "phase": self.phase,
            "address": self.address,
            "pid": self.pid,
            "message": self.message,
            "permanent": self.permanent,
            "attempt": self.attempt,
            "holds_connections": self.holds_connections,
        }


def line(message: Mapping[str, Any]) -> bytes:
    """One message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def parse_command(text: bytes) -> Command:
    """The command on one line.

    Raises ProtocolError for anything that is not one.
    """
    try:
        message = json.loads(text)
        kind = message["type"]
        epoch = int(message.get("epoch", 0))
        if kind == "acting":
            return Acting(epoch)
        if kind == "start":
            return Start(spec(message["spec"]), epoch)
        if kind == "stop":
            return Stop(str(message["id"]), float(message["grace"]), epoch)
        if kind == "sleep":
            return Sleep(str(message["id"]), float(message["grace"]), epoch)
        if kind == "logs":
            log_kind = message.get("kind", OUTPUT)
            if log_kind not in {OUTPUT, BUILD}:
                raise ProtocolError(f"unknown kind of logs {log_kind!r}: this host keeps {OUTPUT} and {BUILD}")
            return Logs(str(message["id"]), int(message["lines"]), int(message["request"]), log_kind)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ProtocolError(f"not a command: {error!r} in {text[:200]!r}") from error
    raise ProtocolError(f"unknown command type {kind!r}: this host knows acting, start, stop, sleep and logs")


def spec(fields: Mapping[str, Any]) -> Spec:
    """The spec that `Spec.to_json` wrote; raises KeyError, TypeError, ValueError, AttributeError."""
    variables = fields.get("environment_vars") or {}
    return Spec(
        id=str(fields["id"]),
        artifact_uri=str(fields["artifact_uri"]),
        title=str(fields.get("title", "")),
        entity_name=str(fields.get("entity_name", "")),
        entity_version=str(fields.get("entity_version", "")),
        environment_vars=tuple((str(name), str(value)) for name, value in variables.items()),
        identity=fields.get("identity"),
        workload_size=str(fields.get("workload_size") or ""),
        asleep=bool(fields.get("asleep", False)),
    )
