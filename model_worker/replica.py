"""A replica: what a forked process becomes. Loads one model and serves it on the socket that it was lent.

It accepts no connection before the model is loaded; until then they wait in the socket's queue. It ends on SIGTERM,
having answered what it has accepted or queued, or some time after its host has died without a successor.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import select
import signal
import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import uvloop

from model_worker import mlflow_model, pulse
from model_worker.admission import Queue
from model_worker.confine import confine, use_threads
from model_worker.fast import Wish
from model_worker.http import Bounds, Server
from model_worker.last_words import last_words
from model_worker.listeners import BACKLOG
from model_worker.orphan import Fate, find_host
from model_worker.output import flush, report, take_output
from model_worker.service import Service
from model_worker.task import Report, Task
from model_worker.traces import Traces

#: Seconds that an orphan may take to answer what it has in hand.
_ORPHAN_FINISH = 10.0

#: Seconds after the start before the model is tried for its fast path.
_FIRST_REQUEST = 0.25

#: Answers that may come piece by piece at once; each keeps a thread.
_STREAMS = 64

#: Seconds within which a connection that was just accepted shows its request.
_LAST_REQUESTS = 0.05


def run(
    task_text: str,
    listener_fd: int,
    log_fd: int,
    channel_fd: int,
    pulse_fd: int,
    loaded: mlflow_model.MlflowModel | None = None,
) -> int:
    """Be the replica, of a model that is `loaded` already if there is one; the exit status of its process in the end."""
    task = Task.from_json(task_text)
    take_output(log_fd)
    confine(task)
    use_threads(task.variables)
    faulthandler.enable()
    listener = socket.socket(fileno=listener_fd)
    channel = socket.socket(fileno=channel_fd)
    _outlive_host(task, channel, listener, pulse_fd)
    try:
        wish = Wish.from_text(task.variables.get("WYE_BATCH", ""))
        queue = task.limits.queue.overridden(task.variables)
        model = _load(task, channel, loaded)
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, SystemExit included
        traceback.print_exc()
        report(channel, Report(failure=last_words(error), permanent=not isinstance(error, OSError | MemoryError)))
        return 1
    uvloop.run(_serve(task, model, wish, queue, listener, pulse.at(pulse_fd)))
    flush()
    return 0


def _load(task: Task, channel: socket.socket, loaded: mlflow_model.MlflowModel | None) -> mlflow_model.MlflowModel:
    os.chdir(task.directory)
    if loaded is not None:
        mlflow_model.fresh_randomness()
        return loaded
    os.environ.clear()
    os.environ.update(task.variables)
    report(channel, Report(progress="loading model"))
    return mlflow_model.load(Path(task.model))


def _outlive_host(task: Task, channel: socket.socket, listener: socket.socket, pulse_fd: int) -> None:
    """Once the host is dead go on serving until another takes over; if none does, finish, then end in any case.

    A thread, because a model may keep the main one busy for ever, while it is loaded too.
    """
    path = listener.getsockname() if listener.family == socket.AF_UNIX else ""
    descriptors = (listener.fileno(), pulse_fd)

    def watch() -> NoReturn:
        fate = Fate.ADOPTED
        while fate is Fate.ADOPTED:
            with contextlib.suppress(OSError):
                while channel.recv(4096):
                    pass
            fate = find_host(task.orphanage, task.identity, descriptors, channel, task.limits.orphan_grace)
        if fate is Fate.ALONE and path:
            # Nobody else is left to remove it.
            with contextlib.suppress(OSError):
                os.unlink(path)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_ORPHAN_FINISH)
        os._exit(1)

    threading.Thread(target=watch, name="host-watch", daemon=True).start()


async def _serve(
    task: Task, model: mlflow_model.MlflowModel, wish: Wish, queue: Queue, listener: socket.socket, heart: pulse.Pulse
) -> None:
    loop = asyncio.get_running_loop()
    asked_to_end = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked_to_end.set)
    limits = task.limits
    service = Service(
        model,
        ThreadPoolExecutor(limits.threads, "predict", use_threads, (task.variables,)),
        ThreadPoolExecutor(_STREAMS, "stream", use_threads, (task.variables,)),
        threads=limits.threads,
        queue=queue,
        pulse=heart,
    )
    traces = Traces(task.collector, task.title) if task.collector else None
    server = Server(service, Bounds(limits.max_body, limits.keep_alive), traces)
    _beat(heart, loop)
    await server.start(listener, BACKLOG)
    improving = asyncio.create_task(_improve(service, model, wish, task), name="fast path")
    await asked_to_end.wait()
    improving.cancel()
    server.say_farewell()
    await _accept_the_queued(listener)
    await server.finish()
    if traces is not None:
        await asyncio.to_thread(traces.close)


def _beat(heart: pulse.Pulse, loop: asyncio.AbstractEventLoop) -> None:
    heart[pulse.BEAT] = time.monotonic()
    loop.call_later(pulse.INTERVAL, _beat, heart, loop)


async def _improve(service: Service, model: mlflow_model.MlflowModel, wish: Wish, task: Task) -> None:
    """Find the fast path, once the first request, which may have waited for this replica, is answered."""
    await asyncio.sleep(_FIRST_REQUEST)
    # One thread, for the interpreter's lock allows no second one; it is the batches' thread afterwards.
    executor = ThreadPoolExecutor(1, "batch", use_threads, (task.variables,))
    try:
        fast = await asyncio.get_running_loop().run_in_executor(executor, model.fast_path, wish)
    except Exception:  # noqa: BLE001 - whatever a model does to the trial, the plain path serves it
        traceback.print_exc()
        return
    # What is there by now stays; the collector need not look at it again and again.
    gc.freeze()
    if fast is not None:
        service.use(fast, executor)


async def _accept_the_queued(listener: socket.socket) -> None:
    """Wait until no connection is left in the socket's queue: closing it would reset them.

    The host has made the socket impossible to find by now, or keeps it open for a successor, so this ends.
    """
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline and select.select([listener], [], [], 0)[0]:  # noqa: ASYNC110 - no event says so
        await asyncio.sleep(0.001)
    await asyncio.sleep(_LAST_REQUESTS)
