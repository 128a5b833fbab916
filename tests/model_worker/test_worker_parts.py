"""The worker's parts by themselves: codec, log files, sockets, commands, measurements, threads at fork time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_worker import codec, forkserver, protocol
from model_worker.codec import Format, InputError, OutputError, UnsupportedTypeError
from model_worker.last_words import last_words
from model_worker.listeners import ListenerError, TcpListeners, UnixListeners, answers
from model_worker.logs import Logs
from model_worker.measured import Measured
from model_worker.output import printer
from model_worker.protocol import ProtocolError, Spec, Start, State, Stop, parse_command
from model_worker.task import FetchTask, Limits, Report, Task


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"inputs": [1,\n 2}', "Expecting ',' delimiter at line 2 column 3"),
        (b"  ", "the request body is empty"),
        (b"[1]", "the request is a JSON array"),
        (b'"x"', "the request is a JSON string"),
        (b"true", "the request is a JSON boolean"),
        (b"null", "the request is a JSON null"),
        (b"1", "the request is a JSON number"),
        (b'{"data": [1]}', "its keys are ['data']"),
        (b'{"inputs": [1], "instances": [1]}', "it has instances and inputs"),
        (b'{"inputs": "\xff"}', "not UTF-8: byte 12"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_json_that_cannot_be_read_is_described(body: bytes, message: str) -> None:
    """Each fault of a request has words of its own."""
    with pytest.raises(InputError) as refused:
        codec.decode(body, "application/json")
    assert message in str(refused.value)


def test_media_types_are_read_generously() -> None:
    """Case and further parameters do not matter; another charset does."""
    assert codec.decode(b"a\n1", "Text/CSV; header=present").format is Format.CSV
    assert codec.decode(b'{"inputs": 1}', " ").format is Format.INPUTS
    with pytest.raises(UnsupportedTypeError, match="UTF-8"):
        codec.decode(b"", "application/json; charset=utf-16")


def test_an_answer_that_is_no_json_is_an_error() -> None:
    """What cannot be written is named by its type, and an answer that contains itself is no crash."""
    with pytest.raises(OutputError, match="it holds a set"):
        codec.encode([{1}], wrapped=True)
    circular: list[Any] = []
    circular.append(circular)
    with pytest.raises(OutputError):
        codec.encode(circular, wrapped=True)
    assert codec.encode(np.float32(0.5), wrapped=False) == b"0.5"


def test_a_log_that_grows_is_cut_in_place(directory: Path) -> None:
    """The file stays small, its last lines stay, and the writer goes on without noticing."""
    logs = Logs(directory, max_bytes=1000, kept_bytes=100)
    file = logs.open("r", "attempt 1")
    os.write(file, b"".join(b"line %d\n" % number for number in range(200)))
    logs.cut(["r"])
    os.write(file, b"after\n")
    os.close(file)
    assert logs.path("r").stat().st_size < 200
    assert logs.tail("r", 2) == "line 199\nafter"
    assert logs.tail("r", 0) == ""


def test_what_is_printed_while_a_log_is_cut_is_not_lost(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes after what was printed before, as far as the host can keep up with it."""
    logs = Logs(directory, max_bytes=1000, kept_bytes=100)
    file = logs.open("r", "attempt 1")
    os.write(file, b"".join(b"line %d\n" % number for number in range(200)))
    meanwhile, read = iter(range(3)), os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        data = read(descriptor, length, offset)
        for number in meanwhile:
            os.write(file, b"meanwhile %d\n" % number)
            break
        return data

    monkeypatch.setattr(os, "pread", pread)
    logs.cut(["r"])
    os.close(file)
    assert logs.path("r").stat().st_size < 200
    assert logs.tail("r", 4) == "line 199\nmeanwhile 0\nmeanwhile 1\nmeanwhile 2"


def test_logs_of_replicas_that_are_gone_are_kept_but_not_all(directory: Path) -> None:
    """Only the most recent files of the dead stay; a living replica's file always does."""
    logs = Logs(directory)
    for number in range(210):
        os.close(logs.open(f"r{number}", "attempt 1"))
        os.utime(logs.path(f"r{number}"), (number, number))
    logs.tidy(["r0"])
    left = {path.stem for path in directory.glob("*.log")}
    assert left == {"r0"} | {f"r{number}" for number in range(10, 210)}


def test_any_replica_id_makes_a_file_in_the_directory(directory: Path) -> None:
    """An id that is no file name is hashed, so that it leads nowhere else."""
    assert Logs(directory).path("../../etc/passwd").parent == directory
    assert Logs(directory).path(".").parent == directory
    assert Logs(directory).path("multi-model.current-1").name == "multi-model.current-1.log"


def test_last_words_are_those_of_the_last_attempt(directory: Path) -> None:
    """A crash is told by what the program said before it, not by the interpreter's account of its own stack."""
    logs = Logs(directory)
    os.close(logs.open("r", "attempt 1"))
    with logs.path("r").open("a") as file:
        file.write("old\n--- attempt 2\none\ntwo\nFatal Python error: Segmentation fault\n\nThread 1:\n")
        file.write('  File "model.py", line 3 in predict\n  File "service.py", line 9\nExtension modules: many\n')
    assert logs.last_words("r", 3) == 'two\nFatal Python error: Segmentation fault\nFile "model.py", line 3 in predict'


def test_a_socket_directory_that_is_too_long_is_refused(directory: Path) -> None:
    """The error counts bytes and says what to choose."""
    with pytest.raises(ListenerError, match=r"may have 107; choose a shorter one"):
        UnixListeners(directory / ("x" * 100), longest_name=17)


def test_a_socket_that_nobody_listens_at_is_swept(directory: Path) -> None:
    """Files left by a killed host go; sockets in use stay, and so do those of other programs."""
    listeners = UnixListeners(directory, longest_name=17)
    kept, left = listeners.open("01234567-1"), listeners.open("01234567-2")
    others = listeners.open("xds")
    left.socket.close()
    others.socket.close()
    listeners.sweep({"01234567-9"})
    assert {path.name for path in directory.glob("*.sock")} == {"01234567-1.sock", "xds.sock"}
    assert answers(directory / "01234567-1.sock")
    assert not answers(directory / "xds.sock")
    kept.close()
    others.close()
    assert list(directory.iterdir()) == []


def test_connections_wait_while_nobody_accepts(directory: Path) -> None:
    """A kept listener queues what connects; hidden, it is found no more but loses nothing."""
    listener = UnixListeners(directory, longest_name=17).open("r")
    client = socket.socket(socket.AF_UNIX)
    client.connect(listener.address["path"])
    listener.hide()
    with pytest.raises(FileNotFoundError), socket.socket(socket.AF_UNIX) as late:
        late.connect(listener.address["path"])
    accepted, _ = listener.socket.accept()
    for one in (accepted, client):
        one.close()
    listener.close()


def test_ports_are_chosen_and_advertised() -> None:
    """A TCP listener reports the host that others reach it by."""
    listener = TcpListeners("127.0.0.1", "worker.local").open("r")
    assert listener.address["host"] == "worker.local"
    assert listener.address["port"] == listener.socket.getsockname()[1]
    listener.close()
    with pytest.raises(ListenerError, match="cannot listen on"):
        TcpListeners("192.0.2.1").open("r")


def test_a_socket_of_the_other_kind_is_not_taken_for_ones_own(directory: Path) -> None:
    """A former host may have been started with --replica-host and its successor without, or the other way round."""
    unix, tcp = UnixListeners(directory, longest_name=17), TcpListeners("127.0.0.1")
    path, port = unix.open("01234567-1"), tcp.open("01234567-2")
    for listeners, other in ((unix, port), (tcp, path)):
        with pytest.raises(ListenerError, match="it listened"):
            listeners.again(other.address)
        with pytest.raises(ListenerError, match="it listens"):
            listeners.inherited(other.socket)
    path.close()
    port.close()


def test_commands_are_read() -> None:
    """A start carries its spec, identity untouched; a stop its grace."""
    line = b'{"type":"start","spec":{"id":"r","artifact_uri":"/m","environment_vars":{"A":"1"},"identity":[1]}}'
    assert parse_command(line) == Start(Spec("r", "/m", environment_vars=(("A", "1"),), identity=[1]))
    assert parse_command(b'{"type":"stop","id":"r","grace":1}') == Stop("r", 1.0)
    assert parse_command(b'{"type":"logs","id":"r","lines":9,"request":1,"kind":"build"}') == protocol.Logs(
        "r", 9, 1, "build"
    )
    with pytest.raises(ProtocolError, match="this host keeps output and build"):
        parse_command(b'{"type":"logs","id":"r","lines":9,"request":1,"kind":"x"}')
    for nonsense in (b"", b"[]", b"{}", b'{"type":"stop","id":"r"}', b'{"type":"start","spec":[]}', b'{"type":"x"}'):
        with pytest.raises(ProtocolError):
            parse_command(nonsense)


def test_a_state_tells_no_secrets() -> None:
    """The environment of a replica is not told to who asks for its state."""
    assert "hush" not in str(State(Spec("r", "/m", environment_vars=(("TOKEN", "hush"),)), "READY").to_json())


def test_tasks_and_reports_survive_the_journey() -> None:
    """What is written is what is read."""
    task = Task("t", "/m", {"A": "1"}, "/d", Limits(orphan_grace=1.5))
    assert Task.from_json(task.to_json()) == task
    fetch = FetchTask("s3://bucket/model", "/d", {"AWS_PROFILE": "p"})
    assert FetchTask.from_json(fetch.to_json()) == fetch
    report = Report(failure="why\nnot", permanent=False)
    assert Report.from_line(report.to_line()) == report


def test_other_threads_are_seen_by_name() -> None:
    """The check before a fork sees Python's threads, and native ones on Linux; a wanted module that starts one is named."""
    before = forkserver.other_threads()
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    assert len(forkserver.other_threads()) == len(before) + 1
    assert forkserver.preload(["json"]) == "json"
    done.set()
    thread.join()


def test_last_words_of_an_exception_name_its_cause() -> None:
    """The outermost words come first; the root's are added when they say more."""
    error = RuntimeError("cannot load")
    error.__cause__ = KeyError("column")
    assert last_words(error) == "RuntimeError: cannot load (caused by KeyError: 'column')"
    assert last_words(ValueError("x" * 5000)).endswith(" …")


def test_last_words_can_always_be_passed_on() -> None:
    """Half a character, as in the name of a file that is not UTF-8; a cause that cannot even say what it is."""

    class SpeechlessError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert last_words(ValueError(b"caf\xe9.csv".decode(errors="surrogateescape"))) == "ValueError: caf?.csv"
    error = RuntimeError("cannot load")
    error.__cause__ = SpeechlessError()
    assert last_words(error).startswith("RuntimeError: cannot load (caused by")


def test_printing_to_a_full_disk_fails_nobody() -> None:
    """What is printed is lost; whoever printed it goes on."""
    with open("/dev/full", "wb", buffering=0) as full:
        paper = printer(full.fileno())
        for _ in range(3):
            paper.write("a line that finds no room\n")
        paper.flush()
        paper.close()


def test_a_log_on_a_full_disk_is_opened_without_its_heading(directory: Path) -> None:
    """A replica need not wait for room on the disk of its log to start, nor be tried until there is no descriptor left."""
    logs = Logs(directory)
    logs.path("r").symlink_to("/dev/full")
    os.close(logs.open("r", "attempt 1"))


def test_a_process_that_has_ended_is_not_measured() -> None:
    """Until its exit status is collected it is there and takes nothing, which would be nonsense for a replica."""
    measured = Measured()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    measured.look({"ended": ended.pid, "here": os.getpid()})
    assert ended.wait() == 0
    taken = measured.to_json()["taken"]
    assert isinstance(taken, dict)
    assert taken.keys() == {"here"}
