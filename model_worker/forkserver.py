"""The fork server: imports a Python environment once, then forks a replica in milliseconds whenever it is asked to.

Runs in the environment of the models, which may be another than the host's; so it imports nothing of the host's. It has
no thread but its own, checked before every fork: a lock that another thread held would stay locked in the child for ever.

The host speaks to it over a socket pair, JSON lines both ways:

    {"fork": TASK, "as": "replica" | "fetch" | "template", "descriptors": N}    with N descriptors attached, for the module's `run`
    {"ping": true}    is answered with {"alive": PID}
    {"ready": PID}    once, after the imports
    {"forked": PID} | {"refused": REASON}    the answer to each fork, in order
    {"exited": PID, "status": N}    a child ended; N as from `os.waitpid`

It ends when the socket does. Its children do not: each has a channel of its own to watch the host by.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

#: Imported before all else: skops looks its functions up in every module that there is, which takes 1.4 s of processor
#: time once MLflow is there, and 0.4 s before.
FIRST = ("sklearn", "skops.io")
#: Imported before the first fork, so that replicas share their pages and need not import them: what no replica can do
#: without …
REQUIRED = ("model_worker.replica",)
#: … and what the common flavours load or import at their first prediction, passed over where it is not installed.
WANTED = (
    "pandas",
    "scipy",
    "mlflow.sklearn",
    "narwhals._interchange.dataframe",
    "narwhals._pandas_like.dataframe",
    "narwhals._pandas_like.namespace",
    "narwhals.stable.v2._namespace",
    "pyarrow.pandas_compat",
    "pyarrow.vendored.version",
    "xgboost",
    "mlflow.xgboost",
    "lightgbm",
    "mlflow.lightgbm",
    "catboost",
)


#: What `rehearse` is called where modules have names.
REHEARSAL = "the rehearsal"


class ForkServer:
    """Serves one host until it hangs up."""

    def __init__(self, control: socket.socket, model: object = None) -> None:
        """`model`: what every replica is given, because it is loaded already."""
        self._control = control
        self._model = model
        self._children: set[int] = set()
        self._received = b""
        self._descriptors: deque[int] = deque()
        self._selector = selectors.DefaultSelector()
        # A signal's arrival must interrupt the wait below; the handler itself does nothing.
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)

    def serve(self) -> None:
        """Fork when told, report children that end, return when the host hangs up."""
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._say(ready=os.getpid())
        while True:
            ready = {key.fileobj for key, _ in self._selector.select()}
            if self._woken in ready:
                self._woken.recv(4096)
            self._reap()
            if self._control in ready and not self._receive():
                return

    def _receive(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, 1 << 20, 64)
        if not data:
            return False
        self._descriptors.extend(descriptors)
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "ping" in told:
                self._say(alive=os.getpid())
                continue
            descriptors = [self._descriptors.popleft() for _ in range(told["descriptors"])]
            self._fork(told["as"], told["fork"], descriptors)
        return True

    def _fork(self, role: str, task: str, descriptors: list[int]) -> None:
        others = other_threads()
        if others:
            self._say(refused=f"forking is unsafe while there are other threads: {', '.join(others)}")
        else:
            try:
                pid = os.fork()
            except OSError as error:
                self._say(refused=f"cannot fork: {error.strerror}")
            else:
                if pid == 0:
                    self._become(role, task, descriptors)
                self._children.add(pid)
                self._say(forked=pid)
        for descriptor in descriptors:
            os.close(descriptor)

    def _become(self, role: str, task: str, descriptors: list[int]) -> NoReturn:
        status = 70  # what is left when even the reporting of an error failed
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # A model that signals its process group must not reach its siblings.
            os.setpgid(0, 0)
            for ours in (self._selector, self._control, self._woken, self._waker):
                ours.close()
            gc.enable()
            become = importlib.import_module(f"model_worker.{role}").run
            status = become(task, *descriptors, *([self._model] if self._model is not None else []))
        finally:
            # Never unwind into the server's loop, and run none of its exit handlers.
            os._exit(status)

    def _reap(self) -> None:
        # Each by its own pid: children that some library made are not ours to take.
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._children.discard(pid)
                self._say(exited=pid, status=status)

    def _say(self, **message: object) -> None:
        self._control.sendall(json.dumps(message).encode() + b"\n")


def other_threads() -> list[str]:
    """The threads of this process besides the main one, by the names that the kernel knows them by."""
    main = str(os.getpid())
    try:
        tasks = os.listdir("/proc/self/task")
    except FileNotFoundError:  # not Linux: only Python's own can be seen
        return [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    names = []
    for task in tasks:
        if task != main:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                names.append(Path(f"/proc/self/task/{task}/comm").read_text().strip())
    return names


def preload(wanted: Iterable[str]) -> str | None:
    """Import modules, those that there are; the name of the first that starts a thread, which ends the importing."""
    for name in wanted:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001 - a broken package harms the models that use it, no others
            print(f"not preloaded: {name}: {error!r}", file=sys.stderr)  # noqa: T201 - stderr is the fork server's log
        if other_threads():
            return name
    return None


def rehearse() -> str | None:
    """Do what every replica does at first, so that they share the pages that this touches; the name of it, as above."""
    from model_worker import mlflow_model  # noqa: PLC0415 - imported by name from REQUIRED already

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            mlflow_model.rehearse()
        except Exception as error:  # noqa: BLE001 - it only saves time and memory
            print(f"not rehearsed: {error!r}", file=sys.stderr)  # noqa: T201 - stderr is the fork server's log
    return REHEARSAL if other_threads() else None


def start_over_without(name: str) -> NoReturn:
    """Become a new fork server that does not preload `name`: an import cannot be undone in any other way."""
    print(f"not preloaded: {name} starts threads: {other_threads()}", file=sys.stderr)  # noqa: T201
    os.execv(sys.executable, [*sys.orig_argv, "--skip", name])  # noqa: S606 - our own command line


def main(arguments: list[str] | None = None) -> None:
    """Run the fork server on an inherited socket."""
    parser = argparse.ArgumentParser(prog="model_worker.forkserver", description="Forks replicas for a worker host.")
    parser.add_argument("--control", type=int, required=True, help="descriptor of the socket to the host")
    parser.add_argument("--skip", action="append", default=[], help="a module that is not to be preloaded")
    options = parser.parse_args(arguments)
    # Ctrl-C in a terminal reaches the whole foreground; the host decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Collected garbage leaves holes in pages that children would otherwise share, and frozen objects are never touched
    # by a child's collector.
    gc.disable()
    threaded = preload(name for name in FIRST if name not in options.skip)
    for name in REQUIRED:
        importlib.import_module(name)
    threaded = threaded or preload(name for name in WANTED if name not in options.skip)
    if threaded is None and REHEARSAL not in options.skip:
        threaded = rehearse()
    if threaded is not None:
        start_over_without(threaded)
    gc.freeze()
    # An error on the socket means that the host is gone, and with it the reason to be here.
    with socket.socket(fileno=options.control) as control, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        ForkServer(control).serve()
    os._exit(0)
