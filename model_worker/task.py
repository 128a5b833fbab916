"""What the host tells a forked process to become, and what that process tells the host while it becomes it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from model_worker.admission import Queue


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds that every replica of a host keeps."""

    #: Seconds that a replica goes on serving once its host is dead, and then has to finish what is in hand.
    orphan_grace: float = 30.0
    #: Bytes of one request's body.
    max_body: int = 16 * 1024 * 1024
    #: Seconds without a request after which a connection is closed; above Envoy's own, so that Envoy closes first.
    keep_alive: int = 75
    #: Requests in the model's predict at once; further ones wait.
    threads: int = 4
    #: How many requests it takes in hand; what is more is refused at once.
    queue: Queue = field(default_factory=Queue)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Limits:
        """The limits that `asdict` took apart."""
        return cls(**fields | {"queue": Queue(**fields["queue"])})


@dataclass(frozen=True, slots=True)
class Task:
    """One replica to be."""

    title: str
    #: The model's folder on this machine.
    model: str
    #: All that the model sees.
    variables: dict[str, str]
    #: An empty directory of its own, which the host removes afterwards.
    directory: str
    limits: Limits
    #: Where to look for the host's successor when the host has died, and what to say of oneself there.
    orphanage: str = ""
    identity: str = ""
    #: Processors that it may run on; none means all.
    processors: tuple[int, ...] = ()
    #: Added to its niceness: the higher, the more others go before it.
    nice: int = 0
    #: Where spans of its requests are sent (OTLP over HTTP); "": nowhere.
    collector: str = ""

    def to_json(self) -> str:
        """The task as it travels to the fork server."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        """The task that `to_json` wrote."""
        fields = json.loads(text)
        limits = Limits.from_fields(fields["limits"])
        return cls(**(fields | {"limits": limits, "processors": tuple(fields["processors"])}))


#: Where a fetched model is in the directory that it is fetched to.
MODEL = "model"


@dataclass(frozen=True, slots=True)
class FetchTask:
    """One model's files to be brought here."""

    artifact_uri: str
    #: It gets a `MODEL` there.
    directory: str
    variables: dict[str, str]

    def to_json(self) -> str:
        """The task as it travels to the fork server."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FetchTask:
        """The task that `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Report:
    """One line on a forked process's channel to its host: how far it is, or why it ends."""

    progress: str = ""
    failure: str = ""
    permanent: bool = True

    def to_line(self) -> bytes:
        """The report as it travels."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Report:
        """The report that `to_line` wrote."""
        return cls(**json.loads(line))
