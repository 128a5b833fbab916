"""Whether a service answers: what the images' health checks run, so often that nothing but the standard library is imported.

`healthy.py ADDRESS [PATH]`: ADDRESS is `unix:/path`, `host:port` or the name of a variable that holds such a thing. With
PATH it speaks HTTP, and any answer but a server's error is good; without, whoever listens has to speak first.
"""

import os
import socket
import sys


def main(address: str, path: str = "") -> int:
    """0 when it answers, else 1 or an exception."""
    address = os.environ.get(address, address)
    if address.startswith("unix:"):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(4)
        peer.connect(address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        peer = socket.create_connection((host, int(port)), timeout=4)
    with peer:
        if path:
            peer.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        said = peer.recv(64)
    if not path:
        return 0 if said else 1
    return 0 if said.startswith(b"HTTP/") and said.split()[1] < b"500" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
