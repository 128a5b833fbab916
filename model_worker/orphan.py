"""A replica whose host has died: it serves on, and looks for the host's successor, which takes it over as it is.

This side runs in the environment of the model; `orphanage.py` is the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Sequence
from enum import Enum

#: It changes when a host would misunderstand a replica of another release.
VERSION = 1

#: Seconds between two looks for a host.
_PAUSE = 0.05

ADOPTED = b"adopted\n"
REFUSED = b"refused\n"


class Fate(Enum):
    """What becomes of an orphan."""

    ADOPTED = "a host has taken it over"
    REFUSED = "a host has another in its place"
    ALONE = "no host came in time"


def find_host(orphanage: str, identity: str, descriptors: Sequence[int], channel: socket.socket, grace: float) -> Fate:
    """Look for a host for `grace` seconds; when one takes this replica over, `channel` leads to it.

    It is given `identity`, which only hosts read, and the `descriptors`, with one for its end of the channel added.
    """
    deadline = time.monotonic() + grace
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as host:
            # A host that is slow may have taken this replica over by the time that it says so; one that dies hangs up.
            host.settimeout(left)
            host.connect(orphanage)
            return _introduce(host, identity, descriptors, channel)
        time.sleep(_PAUSE)
    return Fate.ALONE


def _introduce(host: socket.socket, identity: str, descriptors: Sequence[int], channel: socket.socket) -> Fate:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = json.dumps({"version": VERSION, "identity": identity}).encode() + b"\n"
        sent = socket.send_fds(host, [line], [*descriptors, theirs.fileno()])
        # Not even nothing is sent to a host that may have answered and hung up: that fails, and the answer would be lost.
        if sent < len(line):
            host.sendall(line[sent:])
        answer = host.recv(64)
        if not answer:
            raise ConnectionResetError("the host has hung up without a word: perhaps it died")
        if answer != ADOPTED:
            return Fate.REFUSED
        # In place, for the model's thread may be about to report something.
        os.dup2(ours.fileno(), channel.fileno(), inheritable=False)
    return Fate.ADOPTED
