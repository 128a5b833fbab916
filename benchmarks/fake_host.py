"""A worker host without workers: it says hello with the replicas in a file, and whatever it is told to start is READY.

`python -m benchmarks.fake_host <unix socket> <hello.json> <unix socket of the upstream>`. It speaks the protocol of
`model_worker/protocol.md`, so that the control plane that is measured is the real one, down to its runtime.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from controlplane.domain import Endpoint
from controlplane.rollout.state import deployment, replica_id, wanted_entities


def state(replica: str, identity: object, upstream: Path) -> dict[str, Any]:
    """A replica that is READY, as a host reports it."""
    return {
        "id": replica,
        "identity": identity,
        "title": replica,
        "phase": "READY",
        "address": {"path": str(upstream)},
        "pid": 1,
        "message": "",
        "permanent": False,
        "attempt": 1,
        "holds_connections": False,
    }


def hello(endpoints: Iterable[Endpoint], upstream: Path) -> dict[str, Any]:
    """What a host says that runs one replica of each entity."""
    places = [deployment(endpoint.id, entity) for endpoint in endpoints for entity in wanted_entities(endpoint)]
    replicas = [
        state(
            replica_id(place, 0),
            {"endpoint_id": place.endpoint_id, "entity": place.entity, "generation": place.generation},
            upstream,
        )
        for place in places
    ]
    return {"type": "hello", "protocol": 1, "host_id": "fake", "pid": 1, "replicas": replicas}


async def _signs_of_life(writer: asyncio.StreamWriter) -> None:
    machine = {"type": "machine", "processors": 2.0, "memory": 64 << 30, "available": 32 << 30, "taken": {}}
    while True:
        writer.write(json.dumps(machine).encode() + b"\n")
        await asyncio.sleep(5)


async def _main(listen: str, greeting: bytes, upstream: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        signs = asyncio.create_task(_signs_of_life(writer))
        while line := await reader.readline():
            message = json.loads(line)
            if message["type"] == "start":
                spec = message["spec"]
                answer = {"type": "replica", "replica": state(spec["id"], spec["identity"], upstream)}
            else:
                answer = {"type": "gone", "id": message["id"]}
            writer.write(json.dumps(answer).encode() + b"\n")
        signs.cancel()
        writer.close()

    server = await asyncio.start_unix_server(serve, listen + ".new")
    os.rename(listen + ".new", listen)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2]).read_bytes() + b"\n", Path(sys.argv[3])))
