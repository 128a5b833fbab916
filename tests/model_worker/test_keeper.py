"""What keeps replicas' sockets from one host to the next."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from model_worker import keeper
from tests.model_worker.hosting import PATIENCE


@pytest.mark.parametrize("given_up", [False, True])
def test_a_keeper_leaves_no_files_but_those_of_a_host_that_has_another(directory: Path, *, given_up: bool) -> None:
    """A host that has waited for it in vain listens at the same paths again, as does the keeper that it starts."""
    paths = [directory / "keeper", directory / "replica"]
    own, replica = (listens(path) for path in paths)
    command = [sys.executable, "-I", "-S", keeper.__file__, str(own.fileno()), "0.1"]
    with own, replica, hosts(paths[0]) as first, hosts(paths[0]) as second:
        running = subprocess.Popen(command, pass_fds=[own.fileno()])
        assert first.recv(64) == b'{"kept": null}\n'
        socket.send_fds(first, [b'{"keep": "r"}\n'], [replica.fileno()])
        first.close()
        data, descriptors, _, _ = socket.recv_fds(second, 64, 1)
        assert data == b'{"kept": "r"}\n'
        os.close(descriptors[0])
        others = [listens(path) for path in paths if given_up]
        second.close()
        assert running.wait(PATIENCE) == 0
        assert [path.exists() for path in paths] == [given_up] * 2
        for other in others:
            other.close()


def listens(path: Path) -> socket.socket:
    """A socket that listens there, whoever did before."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def hosts(path: Path) -> socket.socket:
    """A host's connection to a keeper."""
    host = socket.socket(socket.AF_UNIX)
    host.settimeout(PATIENCE)
    host.connect(str(path))
    return host
