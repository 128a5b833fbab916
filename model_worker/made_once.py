"""Directories that are expensive to make and never change: made once per key, however many ask, in however many hosts."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

#: Hears of progress, a line at a time.
Say = Callable[[str], None]

#: Makes the content of an empty directory; processes that it starts and that may outlive us inherit the lock's descriptor.
Make = Callable[[Path, int, Say], Awaitable[None]]

#: Seconds between two looks at a lock that another process holds.
_LOCK_PAUSE = 0.2


@dataclass(slots=True)
class _Making:
    listeners: list[Say] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def tell(self, line: str) -> None:
        self.lines.append(line)
        for say in self.listeners:
            say(line)


class MadeOnce:
    """`<directory>/<key>/` is whole when `<key>.done` is beside it; `<key>.log` tells how it was made.

    A host that dies while it makes or removes one leaves no `.done`, and whoever asks next begins again. The lock is the
    kernel's, so nothing has to be cleaned up after anybody. `<key>.users` names those who have ever asked for it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._making: dict[str, _Making] = {}

    async def get(self, key: str, make: Make, say: Say, user: str = "") -> Path:
        """The directory for `key`, made by `make` unless it is there already; `say` hears how it was made, or is being.

        `user`: who is to be remembered to need it. Raises whatever `make` raises, to everybody who waited for it; who asks after that begins again.
        """
        path = self._directory / key
        making = self._making.get(key)
        if making is None:
            if self.has(key):
                self._use(key, user)
                with contextlib.suppress(OSError):
                    for line in self._log(key).read_text(errors="replace").splitlines():
                        say(line)
                return path
            making = self._making[key] = _Making()
            making.task = asyncio.create_task(self._make(key, make, making.tell), name=f"make {path}")
            making.task.add_done_callback(lambda task: self._made(key, task))
        for line in making.lines:
            say(line)
        making.listeners.append(say)
        assert making.task is not None
        try:
            # Shielded, because others may be waiting, and who asked may ask again.
            await asyncio.shield(making.task)
        finally:
            making.listeners.remove(say)
        self._use(key, user)
        return path

    def has(self, key: str) -> bool:
        """True when it need not be made."""
        return self._done(key).exists() and (self._directory / key).is_dir()

    async def remove(self, key: str) -> bool:
        """Forget it, which nobody may be using; False when somebody is making it at this moment.

        From the call on it is not there: whoever asks for it has it made again.
        """
        with (self._directory / f"{key}.lock").open("ab") as lock:
            if not _locked(lock):
                return False
            self._done(key).unlink(missing_ok=True)
            await asyncio.to_thread(self._remove_files, key)
        return True

    def by_age(self) -> list[tuple[str, int]]:
        """Key and bytes of each that is whole, the longest unused first."""
        found = []
        for done in self._directory.glob("*.done"):
            with contextlib.suppress(FileNotFoundError):  # just removed
                found.append((done.stat().st_mtime, done.stem))
        return [(key, size_of(self._directory / key)) for _, key in sorted(found)]

    async def tidy(self, users: Collection[str], max_age: float) -> list[str]:
        """Remove what none of the `users` has asked for, nor anybody else for `max_age` seconds, and what is half made.

        The keys of what was removed. What they have asked for is as if it had been asked for now, so that other hosts, which
        do not know them, leave it as well.
        """
        return [
            key
            for key in sorted(path.name for path in self._directory.glob("*") if path.is_dir())
            if key not in self._making and self._is_superfluous(key, users, max_age) and await self.remove(key)
        ]

    def _is_superfluous(self, key: str, users: Collection[str], max_age: float) -> bool:
        try:
            if not set(users).isdisjoint(self._users(key).read_text().split()):
                os.utime(self._done(key))  # which makes none: without it, this is half a directory
                return False
        except FileNotFoundError:
            pass
        try:
            return time.time() - self._done(key).stat().st_mtime > max_age
        except FileNotFoundError:
            return True

    def _remove_files(self, key: str) -> None:
        shutil.rmtree(self._directory / key, ignore_errors=True)
        self._log(key).unlink(missing_ok=True)
        self._users(key).unlink(missing_ok=True)

    async def close(self) -> None:
        """Give up what is being made."""
        tasks = [making.task for making in self._making.values() if making.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _made(self, key: str, task: asyncio.Task[None]) -> None:
        del self._making[key]
        if not task.cancelled():
            task.exception()  # whoever still waited has it; if nobody did, it is in the log

    async def _make(self, key: str, make: Make, say: Say) -> None:
        path = self._directory / key
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._directory / f"{key}.lock").open("ab") as lock:
            if not _locked(lock):
                say("waiting for another worker host, which makes the same")
                while not _locked(lock):  # noqa: ASYNC110 - the kernel offers no event for it
                    await asyncio.sleep(_LOCK_PAUSE)
            if self.has(key):
                return
            self._done(key).unlink(missing_ok=True)  # there is one if somebody has deleted the directory alone
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
            path.mkdir(mode=0o700)
            with self._log(key).open("w") as log:

                def tell(line: str) -> None:
                    log.write(line + "\n")
                    log.flush()
                    say(line)

                try:
                    await make(path, lock.fileno(), tell)
                except Exception:
                    # The disk may be full of it. How it went is in the log.
                    await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
                    raise
            self._done(key).touch()

    def _use(self, key: str, user: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # another host has just removed it
            os.utime(self._done(key))
        users = self._users(key)
        if user and not (users.exists() and user in users.read_text().split()):
            with users.open("a") as file:
                file.write(f"{user}\n")

    def _done(self, key: str) -> Path:
        return self._directory / f"{key}.done"

    def _users(self, key: str) -> Path:
        return self._directory / f"{key}.users"

    def _log(self, key: str) -> Path:
        return self._directory / f"{key}.log"


def _locked(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def size_of(directory: Path) -> int:
    """Bytes of all files in a directory and below it, but for those that are removed meanwhile."""
    size = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(os.path.join(folder, name)).st_size
    return size
