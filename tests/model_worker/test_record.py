"""What a host leaves to its successor, on files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from model_worker import protocol
from model_worker.protocol import Spec, State
from model_worker.record import Record

SPEC = Spec("r", "models:/a/1", environment_vars=(("KEY", "secret"),))
READY = State(SPEC, protocol.READY, attempt=3, pid=os.getpid(), address={"path": "/run/r.sock"})


def test_a_replica_is_left_as_it_last_was(tmp_path: Path) -> None:
    """All that was said of it is there as soon as it was said; but for the variables of its model, which are in no file."""
    Record(tmp_path / "record").write("a-1", READY, 12.5)
    (left,) = Record(tmp_path / "record").read()
    assert left.spec == replace(SPEC, environment_vars=())
    assert (left.name, left.address, left.attempt, left.pid, left.born) == (
        "a-1",
        READY.address,
        3,
        os.getpid(),
        12.5,
    )


@pytest.mark.parametrize("changes", [{"phase": protocol.STOPPING}, {"permanent": True}, {"address": None}])
def test_a_successor_need_not_know(tmp_path: Path, changes: dict[str, object]) -> None:
    """Nothing is left of a replica that is to be gone, will never start, or has no socket yet."""
    record = Record(tmp_path)
    record.write("a-1", READY, 1.0)
    record.write("a-1", replace(READY, **changes), 1.0)  # type: ignore[arg-type]
    assert record.read() == []


def test_only_those_that_run_have_a_process(tmp_path: Path) -> None:
    """A process that is about to end, of a replica that failed or was put to sleep, is not waited for."""
    record = Record(tmp_path)
    for name, phase in (("a-1", protocol.STARTING), ("a-2", protocol.FAILED), ("a-3", protocol.ASLEEP)):
        record.write(name, replace(READY, phase=phase), 1.0)
    assert [left.pid for left in record.read()] == [os.getpid(), None, None]


def test_a_broken_file_hides_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read is told, and the rest is known; then only those that there are have files."""
    record = Record(tmp_path)
    record.write("a-1", READY, 1.0)
    record.write("a-2", READY, 1.0)
    (tmp_path / "a-1.json").write_text("{")
    assert [left.name for left in record.read()] == ["a-2"]
    assert "a-1.json" in caplog.text
    record.remove_others({"a-2"})
    assert [path.name for path in tmp_path.iterdir()] == ["a-2.json"]


def test_what_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk stops no replica: it is as last written, and one warning is there however often it fails."""
    record = Record(tmp_path / "full")
    (tmp_path / "full").rmdir()
    for _ in range(3):
        record.write("a-1", READY, 1.0)
    assert caplog.text.count("would not know its replicas") == 1
    assert record.read() == []
