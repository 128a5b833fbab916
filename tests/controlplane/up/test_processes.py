"""Programs that are kept running, and what a killed launcher leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from controlplane.up.processes import Kept, Program, end_orphans, write_pids
from tests.processes import alive

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


def program(folder: Path, command: list[str] = SLEEPER, patience: float = 5.0, hang_after: float = 15.0) -> Program:
    """A program that logs to the folder."""
    return Program("it", command, dict(os.environ), folder / "log", patience, hang_after)


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; fails after a minute."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - processes of others have no event
            await asyncio.sleep(0.005)


def test_a_program_that_dies_is_started_again(tmp_path: Path) -> None:
    """After kill -9 it runs with another process id, and whoever asked is told of both."""

    async def test() -> None:
        changes: list[int | None] = []
        kept = Kept(program(tmp_path), lambda: changes.append(kept.pid))
        kept.start()
        await until(lambda: kept.pid)
        first = kept.pid
        assert first
        os.kill(first, signal.SIGKILL)
        await until(lambda: kept.starts == 2 and kept.pid)
        assert kept.pid != first
        assert changes == [first, None, kept.pid]
        await kept.stop()
        assert kept.pid is None

    asyncio.run(test())


def test_a_program_that_is_stopped_is_replaced(tmp_path: Path) -> None:
    """SIGSTOP: nobody would ever answer again; it is killed, and started anew."""

    async def test() -> None:
        kept = Kept(program(tmp_path, hang_after=0), lambda: None)
        kept.start()
        await until(lambda: kept.last_words() == "up")
        first = kept.pid
        assert first
        os.kill(first, signal.SIGSTOP)
        await until(lambda: kept.starts == 2 and kept.pid)
        assert not psutil.pid_exists(first)
        await kept.stop()

    asyncio.run(test())


def test_a_program_that_does_not_heed_sigterm_is_killed(tmp_path: Path) -> None:
    """When its patience is over it is ended for good."""

    async def test() -> None:
        kept = Kept(program(tmp_path, STUBBORN, patience=0.1), lambda: None)
        kept.start()
        await until(lambda: kept.last_words() == "up")
        await kept.stop()
        assert kept.pid is None

    asyncio.run(test())


def test_a_program_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """Its file is just being replaced, say: it is started when it is there, and to stop is possible at any time."""

    async def test() -> None:
        tool = tmp_path / "tool"
        kept, other = (Kept(program(tmp_path, [str(tool)]), lambda: None) for _ in range(2))
        kept.start()
        await until(lambda: kept.starts)
        other.start()
        await until(lambda: other.starts == 2)
        assert "No such file or directory" in other.last_words()
        await other.stop()
        (tmp_path / "new").write_text(f"#!{sys.executable}\n{SLEEPER[-1]}\n")
        (tmp_path / "new").chmod(0o700)
        (tmp_path / "new").rename(tool)
        await until(lambda: kept.pid and kept.last_words() == "up")
        await kept.stop()
        assert kept.pid is None

    asyncio.run(test())


def test_last_words_are_the_last_line_that_says_something(tmp_path: Path) -> None:
    """Empty lines at the end of a log are passed over."""
    kept = Kept(program(tmp_path), lambda: None)
    assert kept.last_words() == "it said nothing."
    (tmp_path / "log").write_text("Traceback\nValueError: no\n\n")
    assert kept.last_words() == "ValueError: no"


def test_orphans_are_ended_and_strangers_are_not(tmp_path: Path) -> None:
    """A noted process is ended with its children; one that merely has a noted number by now is left alone."""
    parent = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print('up', flush=True); time.sleep(600)"
    with (
        subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as orphan,
        subprocess.Popen(SLEEPER, stdout=subprocess.PIPE) as stranger,
    ):
        try:
            assert orphan.stdout
            orphan.stdout.readline()
            (child,) = psutil.Process(orphan.pid).children()
            notes = tmp_path / "pids.json"
            notes.write_text(
                json.dumps(
                    {orphan.pid: psutil.Process(orphan.pid).create_time() - psutil.boot_time(), stranger.pid: 1.0}
                )
            )
            assert end_orphans(notes) == 2
            assert not alive(child)
            assert not psutil.pid_exists(orphan.pid)
            assert stranger.poll() is None
            assert not notes.exists()
        finally:
            stranger.kill()
            orphan.kill()


def test_notes_that_cannot_be_read_are_no_reason_to_fail(tmp_path: Path) -> None:
    """No file, or half a file, means that there is nothing to end."""
    assert end_orphans(tmp_path / "none") == 0
    (tmp_path / "half").write_text('{"12')
    assert end_orphans(tmp_path / "half") == 0


def test_only_running_programs_are_noted(tmp_path: Path) -> None:
    """What has not been started has no process id to note."""
    write_pids(tmp_path / "pids.json", [Kept(program(tmp_path), lambda: None)])
    assert json.loads((tmp_path / "pids.json").read_text()) == {}
