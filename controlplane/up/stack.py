"""All of Wye on one machine: what is started in which order, how long it is waited for, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import httpx
from rich.console import Console
from rich.markup import escape

from controlplane import keys
from controlplane.demo import CONFIG, ENDPOINT, EXAMPLE, MODELS
from controlplane.domain import Address
from controlplane.files import open_many, write_private
from controlplane.said import WAITING
from controlplane.settings import OFF, Settings
from controlplane.translate.gateway import STDOUT
from controlplane.up import envoy, worker_host
from controlplane.up.access_log import keep_small
from controlplane.up.drain import drain
from controlplane.up.preflight import (
    AwayError,
    CannotStartError,
    check_registry,
    find_envoy,
    free_port,
    has_served,
    hold_state_dir,
)
from controlplane.up.processes import Kept, Program, end_orphans, write_pids

#: Seconds within which everything must answer, on a slow machine that imports MLflow for the first time.
START_TIMEOUT = 120.0
#: Seconds after which somebody who looks on is told what is waited for.
QUIET = 3.0


class Stack:
    """Envoy, the control plane and the worker host, kept running until a signal says stop."""

    def __init__(self, settings: Settings, *, demo: bool) -> None:
        self._settings = settings
        self._demo = demo
        self._console = Console(stderr=False, highlight=False, soft_wrap=True)
        self._kept: dict[str, Kept] = {}
        self._token = ""
        self._ready = False
        #: Set by a second signal: do not wait for requests any longer.
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Start everything, say where it is, and return after SIGINT or SIGTERM when all of it is gone.

        Raises CannotStartError when something is in the way.
        """
        stopping = asyncio.Event()

        def told_to_stop() -> None:
            if stopping.is_set():
                self._hurry.set()
            stopping.set()

        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(signum, told_to_stop)
        binary = find_envoy()
        open_many()
        with hold_state_dir(self._settings):
            end_orphans(self._pids_file)
            self._wye_json.unlink(missing_ok=True)
            access_log = self._settings.access_log or str(self._settings.log_dir / "access.log")
            self._settings = replace(self._settings, port=free_port(self._settings), access_log=access_log)
            await self._check_registry()
            if not self._settings.no_auth:
                self._token = keys.load_or_make(Path(self._settings.keys_dir)).admin_token
            tidying = asyncio.create_task(self._tidy(), name="access log")
            try:
                self._start(binary)
                starting = asyncio.create_task(self._until_ready())
                stop = asyncio.create_task(stopping.wait())
                await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    self._ready = True
                    self._write_wye_json()
                    self._welcome()
                    await stop
                else:
                    starting.cancel()
                    await asyncio.gather(starting, return_exceptions=True)
            finally:
                tidying.cancel()
                await self._stop()

    # Starting

    async def _check_registry(self) -> None:
        """A registry that is away holds up nobody who has endpoints: they are served without it."""
        try:
            await asyncio.to_thread(check_registry, self._settings.mlflow_uri)
        except AwayError as error:
            if self._demo or not has_served(self._settings):
                raise
            self._console.print(
                f"[yellow]![/yellow] {escape(str(error))} Endpoints are served meanwhile; new configs are refused."
            )

    def _start(self, binary: str) -> None:
        settings = self._settings
        bootstrap = envoy.write_bootstrap(settings)
        environment = {**os.environ, **settings.environment(), "PYTHONUNBUFFERED": "1"}
        for name, command, added, patience in (
            ("worker_host", worker_host.command(settings), worker_host.variables(settings), settings.stop_grace + 2.0),
            ("controlplane", [sys.executable, "-m", "controlplane"], {}, 15.0),
            ("envoy", envoy.command(binary, settings, bootstrap), {}, 10.0),
        ):
            log = settings.log_dir / f"{name}.log"
            program = Program(name, command, {**environment, **added}, log, patience, settings.hang_after)
            self._kept[name] = Kept(program, self._processes_changed)
        # Envoy follows when there is somebody to ask: it would but complain, and then come late.
        for name in ("worker_host", "controlplane"):
            self._kept[name].start()

    async def _until_ready(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, headers=self._authorization, timeout=30.0) as client:
            demo = asyncio.create_task(self._register_demo()) if self._demo else None
            try:
                async with self._step("Envoy, the control plane and the worker host"):
                    await self._wait_for(self._serves_envoys, "The control plane does not answer")
                    self._kept["envoy"].start()
                    await self._wait_for(lambda: self._answers(client), "Wye does not answer")
                if demo:
                    async with self._step(f"Models {' and '.join(MODELS)} in the registry {self._settings.mlflow_uri}"):
                        await demo
                    async with self._step(f"Endpoint {ENDPOINT}"):
                        await self._create_demo(client)
            finally:
                if demo and not demo.done():
                    demo.cancel()
                    await asyncio.gather(demo, return_exceptions=True)

    async def _serves_envoys(self) -> bool:
        self._check_programs()
        where = Address.parse(self._settings.xds_address)
        try:
            _, writer = await (
                asyncio.open_unix_connection(where.path)
                if where.path
                else asyncio.open_connection(where.host, where.port)
            )
        except OSError:
            return False
        writer.close()
        return True

    def _check_programs(self) -> None:
        for kept in self._kept.values():
            if kept.starts > 3:
                raise CannotStartError(f"{kept.program.name} does not start: {kept.last_words()}")

    async def _answers(self, client: httpx.AsyncClient) -> bool:
        self._check_programs()
        try:
            answer = await client.get("/api/2.0/wye/status")
        except httpx.HTTPError:
            return False
        if answer.status_code != 200:
            return False
        return bool(answer.json()["worker_host"]["connected"])

    async def _register_demo(self) -> None:
        artifacts = self._settings.state_dir / "artifacts"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controlplane.demo", self._settings.mlflow_uri, str(artifacts)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _, errors = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no reason was given"]
            raise CannotStartError(f"The demo models cannot be registered in {self._settings.mlflow_uri}: {last[0]}")

    async def _create_demo(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/2.0/serving-endpoints", json={"name": ENDPOINT, "config": CONFIG})
        if answer.status_code not in {200, 409}:  # 409: it is there since an earlier start, and stays as it is
            raise CannotStartError(f"The endpoint {ENDPOINT} cannot be created: {answer.text}")

        async def settled() -> bool:
            endpoint = (await client.get(f"/api/2.0/serving-endpoints/{ENDPOINT}")).json()
            state = endpoint["state"]
            if state["config_update"] == "UPDATE_FAILED" and state["ready"] != "READY":
                said = [e["state"]["deployment_state_message"] for e in endpoint["pending_config"]["served_entities"]]
                raise CannotStartError(f"The endpoint {ENDPOINT} failed: {' '.join(said)}")
            return bool(state["ready"] == "READY" and state["config_update"] != "IN_PROGRESS")

        await self._wait_for(settled, f"The endpoint {ENDPOINT} does not become ready")

    async def _wait_for(self, condition: Callable[[], Awaitable[bool]], otherwise: str) -> None:
        began = time.monotonic()
        awaited = ""
        while not await condition():
            now = time.monotonic()
            if now > began + QUIET and not awaited and (awaited := self._awaited()):
                self._console.print(f"[yellow]![/yellow] {escape(awaited)}")
            if now > began + START_TIMEOUT:
                words = self._awaited() or f"see {self._settings.log_dir}."
                raise CannotStartError(f"{otherwise} after {START_TIMEOUT:.0f} s; {words}")
            await asyncio.sleep(0.05)

    def _awaited(self) -> str:
        """Whom the control plane waits for, in its words; "" if for nobody."""
        _, waiting, words = self._kept["controlplane"].last_words().partition(WAITING)
        return waiting + words

    # Running

    @property
    def url(self) -> str:
        """The public URL."""
        host = {"0.0.0.0": "localhost", "::": "localhost", "127.0.0.1": "localhost"}.get(  # noqa: S104 - shown, not bound
            self._settings.host, self._settings.host
        )
        return f"http://{f'[{host}]' if ':' in host else host}:{self._settings.port}"

    @property
    def _authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

    @property
    def _pids_file(self) -> Path:
        return self._settings.run_dir / "pids.json"

    @property
    def _wye_json(self) -> Path:
        return self._settings.state_dir / "wye.json"

    def _processes_changed(self) -> None:
        write_pids(self._pids_file, list(self._kept.values()))
        if self._ready:
            try:
                self._write_wye_json()
            except OSError as error:  # a full disk, most likely: the file is as it was, and the programs run
                self._console.print(f"[yellow]![/yellow] {escape(str(self._wye_json))} cannot be written: {error}")

    def _write_wye_json(self) -> None:
        document = {
            "url": self.url,
            "token": self._token,
            "pids": {name: kept.pid for name, kept in self._kept.items()},
            "mlflow_uri": self._settings.mlflow_uri,
        }
        write_private(self._wye_json, json.dumps(document, indent=2))

    def _welcome(self) -> None:
        say = self._console.print
        say(f"\n[bold]Wye is ready[/bold] at {self.url} (a browser shows the Serving page there)")
        if self._token:
            say(f"Token: {self._token}")
        say(f"State: {self._settings.state_dir}   Logs: {self._settings.log_dir}")
        if self._demo:
            header = f"-H 'Authorization: Bearer {self._token}' " if self._token else ""
            say("\nTry it:")
            say(
                f"  curl {header}-H 'Content-Type: application/json' "
                f"-d '{json.dumps(EXAMPLE)}' {self.url}/serving-endpoints/{ENDPOINT}/invocations",
                markup=False,
            )
        say("\nCtrl-C stops it.")

    async def _tidy(self) -> None:
        """Keep the access log from filling the disk."""
        if self._settings.access_log in {OFF, STDOUT}:
            return

        def reopen() -> None:
            envoy = self._kept["envoy"].process
            if envoy is not None and envoy.returncode is None:
                envoy.send_signal(signal.SIGUSR1)

        await keep_small(Path(self._settings.access_log), self._settings.access_log_megabytes << 20, reopen)

    # Stopping

    async def _stop(self) -> None:
        self._ready = False
        if self._console.is_terminal and self._kept:
            self._console.print("Stopping …")
        # Envoy first: it is the door. The host last: it ends the replicas.
        if "envoy" in self._kept and self._kept["envoy"].pid is not None:
            draining = asyncio.create_task(drain(envoy.admin_socket(self._settings), self._still_in_hand))
            hurry = asyncio.create_task(self._hurry.wait())
            await asyncio.wait(
                {draining, hurry}, timeout=self._settings.stop_grace, return_when=asyncio.FIRST_COMPLETED
            )
            for task in (draining, hurry):
                task.cancel()
            await asyncio.gather(draining, hurry, return_exceptions=True)
        for name in ("envoy", "controlplane", "worker_host"):
            if name in self._kept:
                await self._kept[name].stop(self._hurry)
        for left in (self._wye_json, self._pids_file, *self._settings.run_dir.glob("*.sock")):
            left.unlink(missing_ok=True)
        if not self._settings.run_dir.is_relative_to(self._settings.state_dir):
            shutil.rmtree(self._settings.run_dir, ignore_errors=True)  # else it would be litter in /tmp

    def _still_in_hand(self, requests: int) -> None:
        if self._console.is_terminal:
            self._console.print(f"Waiting for {requests} requests to end; Ctrl-C again stops at once.")

    @contextlib.asynccontextmanager
    async def _step(self, what: str) -> AsyncIterator[None]:
        """Show that `what` is being waited for, and then how long it took."""
        began = time.monotonic()
        spinner = self._console.status(f"{what} …") if self._console.is_terminal else contextlib.nullcontext()
        with spinner:
            yield
        self._console.print(f"[green]✓[/green] {what} ({time.monotonic() - began:.1f} s)")
