"""What replicas print: one file each, written by the replica itself, kept small by the host.

The replica holds the file open for appending, so that its last words are there however it ends; the host cuts the file
when it grows, which costs a printing model nothing and others nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

#: A file longer than this is cut …
MAX_BYTES = 4 * 1024 * 1024
#: … to its last part.
KEPT_BYTES = 1024 * 1024
#: So often what was printed during a cut is looked at again: a model may print as fast as it can be copied.
_CATCHES_UP = 16
#: Files of replicas that are gone, for whoever asks what happened.
KEPT_FILES = 200

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class Logs:
    """The log files in one directory, found by replica id."""

    def __init__(self, directory: Path, *, max_bytes: int = MAX_BYTES, kept_bytes: int = KEPT_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._kept_bytes = kept_bytes

    def path(self, replica_id: str) -> Path:
        """Where this replica's output is."""
        plain = _PLAIN_NAME.fullmatch(replica_id) is not None
        name = replica_id if plain else hashlib.sha256(replica_id.encode()).hexdigest()[:32]
        return self._directory / f"{name}.log"

    def open(self, replica_id: str, heading: str) -> int:
        """A file descriptor that appends to the replica's file, which now ends with the line `heading` unless the disk is full."""
        descriptor = os.open(self.path(replica_id), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with contextlib.suppress(OSError):  # what is printed is lost then, and nobody fails for it
            os.write(descriptor, f"--- {heading}\n".encode())
        return descriptor

    def tail(self, replica_id: str, lines: int) -> str:
        """The last lines, oldest first; empty for a replica that has printed nothing or is unknown."""
        if lines <= 0:
            return ""
        return "\n".join(self._end(replica_id).splitlines()[-lines:])

    def last_words(self, replica_id: str, lines: int) -> str:
        """The last lines printed since the last heading; of the interpreter's own account of a crash, the beginning."""
        printed: list[str] = []
        for text in self._end(replica_id).splitlines():
            printed = [] if text.startswith("--- ") else [*printed, text]
        for number, text in enumerate(printed):
            if text.startswith("Fatal Python error:"):
                innermost = [frame.strip() for frame in printed[number:] if frame.startswith("  File ")][:1]
                return "\n".join([*printed[max(0, number - lines + 2) : number + 1], *innermost])
        return "\n".join(printed[-lines:])

    def cut(self, living: Iterable[str]) -> None:
        """Shorten the living replicas' files that have grown too long to their last part."""
        for replica_id in living:
            path = self.path(replica_id)
            with contextlib.suppress(FileNotFoundError):
                self._shorten_if_long(path)

    def tidy(self, living: Iterable[str]) -> None:
        """Of the replicas that are not `living`, keep only the most recent files, and none that is too long."""
        in_use = {self.path(replica_id) for replica_id in living}
        left: list[tuple[float, Path]] = []
        for path in self._directory.glob("*.log"):
            if path not in in_use:
                self._shorten_if_long(path)
                left.append((path.stat().st_mtime, path))
        for _, path in sorted(left)[:-KEPT_FILES]:
            path.unlink(missing_ok=True)

    def _shorten_if_long(self, path: Path) -> None:
        size = path.stat().st_size
        if size <= self._max_bytes:
            return
        # In place, because the replica has this very file open; appending writes go to the new end. Its last part is copied to
        # the beginning, then what was printed meanwhile; what is printed between the last look and the cut is lost.
        with path.open("r+b", buffering=0) as file:
            descriptor = file.fileno()
            last = os.pread(descriptor, self._kept_bytes, size - self._kept_bytes)
            data = b"--- earlier output was cut\n" + last[last.find(b"\n") + 1 :]
            read, written = size - self._kept_bytes + len(last), 0
            for _ in range(_CATCHES_UP):
                written += os.pwrite(descriptor, data, written)
                data = os.pread(descriptor, self._kept_bytes, read)
                if not data:
                    break
                read += len(data)
            os.ftruncate(descriptor, written)

    def _end(self, replica_id: str) -> str:
        try:
            with self.path(replica_id).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - self._kept_bytes))
                return file.read(self._kept_bytes).decode(errors="replace")
        except FileNotFoundError:
            return ""
