"""A container engine: the one that answers, else one of our own for as long as it is needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.compose import stand_ins
from tests.e2e.wye import until


class NoEngineError(Exception):
    """Says why there is none, and what would help."""


@contextlib.contextmanager
def engine() -> Iterator[list[str]]:
    """A Docker that `docker` talks to while this lasts; the command that is its Compose.

    Raises NoEngineError.
    """
    if shutil.which("docker") is None:
        raise NoEngineError("there is no `docker` on PATH; on Debian: apt-get install docker.io")
    with contextlib.ExitStack() as stack:
        if not _answers():
            stack.enter_context(_own())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wye-compose-")))
        yield _compose(scratch)


def _answers() -> bool:
    return subprocess.run(["docker", "version"], check=False, capture_output=True).returncode == 0


@contextlib.contextmanager
def _own() -> Iterator[None]:
    """A Docker daemon with everything that is its own in a directory that goes when it ends."""
    if shutil.which("dockerd") is None or os.getuid() != 0:
        raise NoEngineError(
            "no Docker daemon answers, and only root can start one (with the package docker.io on Debian)"
        )
    directory = Path(tempfile.mkdtemp(prefix="wye-docker-", dir=stand_ins.roomy(8)))
    address = f"unix://{directory}/docker.sock"
    log = (directory / "log").open("wb")
    command = ["dockerd", "--host", address, "--data-root", str(directory / "data")]
    command += ["--exec-root", str(directory / "run"), "--pidfile", str(directory / "pid")]
    daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = address
    try:
        until(lambda: _answers() or daemon.poll() is not None, 60, "a Docker daemon of our own answers")
        if daemon.poll() is not None:
            last = (directory / "log").read_text(errors="replace").strip().splitlines()[-1:]
            raise NoEngineError(f"a Docker daemon cannot run here: {' '.join(last)}")
        yield
    finally:
        if daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
        log.close()
        os.environ.pop("DOCKER_HOST")
        if before is not None:
            os.environ["DOCKER_HOST"] = before
        shutil.rmtree(directory, ignore_errors=True)


def _compose(scratch: Path) -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        with contextlib.suppress(FileNotFoundError):
            said = subprocess.run([*command, "version", "--short"], check=False, capture_output=True, text=True)
            if said.returncode == 0 and int(said.stdout.strip().lstrip("v").split(".")[0]) >= 2:
                return command
    if shutil.which("mmdebstrap") is None or os.getuid() != 0:
        raise NoEngineError(
            "Compose 2 is needed: the Docker plugin, or as root on Debian the package mmdebstrap to get it"
        )
    return [stand_ins.compose_binary(scratch)]
