"""Keeps the listening sockets of replicas open from one host to the next, so that the requests that wait in them are not lost.

A replica without a process has nobody but its host to hold its socket, and the kernel resets what waits in a socket that
nobody holds. This is a process of its own, which outlives a host that is killed; small, for it imports nothing of ours.

It listens on a Unix socket, where one host at a time speaks to it, in JSON lines; N is what a replica's socket is called:

    {"kept": N}    with a descriptor, for each socket that a former host has left; then {"kept": null}
    {"keep": N}    from the host, with a descriptor
    {"drop": N}    from the host
    {"end": true}    from the host, which needs no successor

It ends when it is told to, or when no host has come for a while after the last one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections import deque

#: Bytes of one message, and more.
_ROOM = 1 << 16


def main(listener: socket.socket, grace: float) -> None:
    """Serve one host after another, for as long as the next one comes within `grace` seconds."""
    kept: dict[str, socket.socket] = {}
    here = _file(listener)
    listener.settimeout(grace)
    while True:
        try:
            host, _ = listener.accept()
        except TimeoutError:
            break
        with host, contextlib.suppress(ConnectionError):
            host.settimeout(None)
            if _serve(host, kept):
                break
    if _file(listener) != here:
        return  # a host has given up on this one: it has another keeper, and listens at these very paths itself
    # No host knows of these any more.
    for path in (each.getsockname() for each in (listener, *kept.values())):
        if isinstance(path, str):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _file(listener: socket.socket) -> tuple[int, int] | None:
    """Which file is at the path of a socket."""
    with contextlib.suppress(OSError):
        found = os.stat(listener.getsockname())
        return found.st_dev, found.st_ino
    return None


def _serve(host: socket.socket, kept: dict[str, socket.socket]) -> bool:
    """Do what a host says until it hangs up; True when it needs no successor."""
    for name, each in kept.items():
        socket.send_fds(host, [_line({"kept": name})], [each.fileno()])
    host.sendall(_line({"kept": None}))
    received, descriptors = b"", deque[int]()
    while True:
        data, sent, _, _ = socket.recv_fds(host, _ROOM, 64)
        if not data:
            return False
        descriptors.extend(sent)
        *lines, received = (received + data).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "end" in told:
                return True
            former = kept.pop(told.get("keep") or told["drop"], None)
            if former is not None:
                former.close()
            if "keep" in told:
                kept[told["keep"]] = socket.socket(fileno=descriptors.popleft())


def _line(message: dict[str, str | None]) -> bytes:
    return json.dumps(message).encode() + b"\n"


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), float(sys.argv[2]))
