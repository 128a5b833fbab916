"""Which replicas a host has, written down for the one that follows when it is killed."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from model_worker import protocol
from model_worker.protocol import Spec, State

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Left:
    """A replica of the former host, as it was last written down."""

    #: Without the model's variables, which may be secrets, and are in no file.
    spec: Spec
    #: What its socket is called, and where it is.
    name: str
    address: dict[str, Any]
    attempt: int
    #: None: it had no process.
    pid: int | None
    #: `birth` of that process.
    born: float

    @property
    def lives(self) -> bool:
        """Whether its process is there still."""
        if self.pid is None:
            return False
        try:
            process = psutil.Process(self.pid)
            return abs(birth(process) - self.born) < 0.05 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def birth(process: psutil.Process) -> float:
    """When a process was made, in seconds since the machine was started: unlike the time of day, that never changes."""
    booted = psutil.boot_time()  # first: some releases of psutil keep it, and add what they kept
    return process.create_time() - booted


class Record:
    """A directory with a file for each replica there is, written before anything else hears of a change.

    One that were written late, or for all of them at once, would say of a replica that has just become ready that it had
    no process; its host's successor would start another in its place.
    """

    def __init__(self, directory: Path) -> None:
        """Raises OSError when the directory cannot be made."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._complete = True

    def read(self) -> list[Left]:
        """What the former host wrote; nothing if there was none, or if it ended as it should."""
        return [left for path in sorted(self._directory.glob("*.json")) if (left := _read(path)) is not None]

    def write(self, name: str, state: State, born: float) -> None:
        """What a successor has to know of a replica: its state, and when its process was made; nothing if it is to be gone.

        The file is whole, or as it was before: as it stays when the disk is full.
        """
        if state.address is None or state.phase == protocol.STOPPING or state.permanent:
            self.remove(name)
            return
        document = {
            "spec": {**state.spec.to_json(), "environment_vars": {}},
            "name": name,
            "address": state.address,
            "attempt": state.attempt,
            "pid": state.pid if state.phase in {protocol.STARTING, protocol.READY} else None,
            "born": born,
        }
        path = self._path(name)
        beside = path.with_suffix(".new")
        try:
            beside.write_text(json.dumps(document))
            beside.replace(path)
        except OSError as error:
            if self._complete:
                _logger.warning("a successor of this host would not know its replicas: %s", error)
            self._complete = False
        else:
            self._complete = True

    def remove(self, name: str) -> None:
        """A successor has nothing to know of it."""
        with contextlib.suppress(OSError):
            self._path(name).unlink(missing_ok=True)

    def remove_others(self, names: Container[str]) -> None:
        """Nor of any replica but these."""
        for path in self._directory.glob("*"):
            if path.stem not in names:
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"


def _read(path: Path) -> Left | None:
    try:
        return _left(json.loads(path.read_text()))
    except (OSError, ValueError, LookupError, TypeError) as error:
        _logger.warning("what the former host has left in %s is not known: %r", path, error)
        return None


def _left(fields: dict[str, Any]) -> Left:
    return Left(
        spec=protocol.spec(fields["spec"]),
        name=str(fields["name"]),
        address=dict(fields["address"]),
        attempt=int(fields["attempt"]),
        pid=fields["pid"],
        born=float(fields["born"]),
    )
