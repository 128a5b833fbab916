"""Models' files on this machine: where they are if they are here already, else fetched once for all replicas of the host."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlparse

from model_worker.fork_servers import ForkServers
from model_worker.forks import Child
from model_worker.full_disk import is_full, says_full
from model_worker.made_once import MadeOnce, Say
from model_worker.task import MODEL, FetchTask, Report
from model_worker.variables import fetch_variables


class FetchError(Exception):
    """A model's files cannot be had; the text is the artifact store's."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        """`permanent`: another attempt would fail in the same way."""
        super().__init__(message)
        self.permanent = permanent


class Artifacts:
    """The files behind artifact URIs. Those that had to be fetched are kept, as many as `max_bytes` allows.

    A URI is taken to mean the same files for ever, as MLflow's do: every version of a model has a place of its own.
    """

    def __init__(self, directory: Path, max_bytes: int, forks: ForkServers, variables: Mapping[str, str]) -> None:
        """`variables`: the host's own, which say where artifacts are and how to get in."""
        self._directory = directory
        self._made = MadeOnce(directory)
        self._max_bytes = max_bytes
        self._forks = forks
        self._variables = fetch_variables(variables)
        self._in_use: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def folder(self, artifact_uri: str, say: Say) -> AsyncIterator[Path]:
        """The folder with the model's files, which stay there until the context ends.

        Raises FetchError, ForkError, OSError.
        """
        here = local_path(artifact_uri)
        if here is not None:
            yield here
            return
        key = _key(artifact_uri)
        with self.held(artifact_uri):
            fetched = not self._made.has(key)
            try:
                path = await self._made.get(
                    key, lambda directory, _, tell: self._fetch(artifact_uri, directory, tell), say
                )
            except OSError as error:
                if is_full(error):
                    raise FetchError(self._full(artifact_uri), permanent=False) from error
                raise
            if fetched:
                await self._trim()
            yield path / MODEL

    @contextlib.contextmanager
    def held(self, artifact_uri: str) -> Iterator[None]:
        """Leave the files where they are, if they are here, until the context ends."""
        key = _key(artifact_uri)
        self._in_use[key] += 1
        try:
            yield
        finally:
            self._in_use[key] -= 1

    async def close(self) -> None:
        """Give up what is being fetched."""
        await self._made.close()

    async def _fetch(self, artifact_uri: str, directory: Path, say: Say) -> None:
        say(f"fetching {_without_secrets(artifact_uri)}")
        task = FetchTask(artifact_uri, str(directory), self._variables)
        said = directory / "said.txt"
        ours, theirs = socket.socketpair()
        log = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            child = await self._forks.base.fork("fetch", task.to_json(), [log, theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(log)
        failure = await _outcome(child, ours)
        printed = said.read_text(errors="replace").splitlines()
        if failure is None and not (directory / MODEL).exists():
            failure = Report(
                failure=f"the process that fetched the model ended: {' '.join(printed[-3:])}", permanent=False
            )
        if failure is not None:
            for line in printed:
                say(line)
            words = failure.failure
            if says_full(words):
                words = f"{self._full(artifact_uri)}: {words}"
            raise FetchError(words, permanent=failure.permanent)

    def _full(self, artifact_uri: str) -> str:
        return f"{_without_secrets(artifact_uri)} cannot be fetched because the disk is full that has {self._directory}"

    async def _trim(self) -> None:
        """Remove what has not been used for longest, until the rest is no more than is allowed."""
        entries = await asyncio.to_thread(self._made.by_age)
        excess = sum(size for _, size in entries) - self._max_bytes
        for key, size in entries:
            if excess > 0 and self._in_use[key] <= 0 and await self._made.remove(key):
                excess -= size


def _key(artifact_uri: str) -> str:
    return hashlib.blake2b(artifact_uri.encode(), digest_size=12).hexdigest()


def local_path(artifact_uri: str) -> Path | None:
    """Where the files are if the URI says so, else None; a path means the same in any working directory."""
    parsed = urlparse(artifact_uri)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    if "://" in artifact_uri or ":/" in artifact_uri:
        return None
    return Path(artifact_uri).absolute()


async def _outcome(child: Child, channel: socket.socket) -> Report | None:
    """What a fetching process reports, if it fails; it is ended if nobody waits for it any more."""
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    try:
        failure = None
        with contextlib.suppress(ConnectionError):
            async for line in reader:  # until it has ended
                failure = Report.from_line(line)
        await child.ended
        return failure
    finally:
        writer.close()
        if not child.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


def _without_secrets(uri: str) -> str:
    parsed = urlparse(uri)
    return parsed._replace(netloc=parsed.netloc.rpartition("@")[2], query="", fragment="").geturl()
