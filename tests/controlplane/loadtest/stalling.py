"""A server that answers at once, save when it is told to stall, to refuse or to hang up; on a thread of its own."""

import asyncio
import threading

from tests import listening

BODY = b'{"predictions": [1.0]}'
TIMING = b"server-timing: parse;dur=0.010, queue;dur=0.020, predict;dur=0.500, serialize;dur=0.030\r\n"


def answer(status=b"200 OK", body=BODY, more=b""):
    """An answer's bytes."""
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n" % (status, len(body), more)
    return head + body


class StallingServer:
    """`answers(number)` gives the bytes of each request's answer, None to hang up, "stall" to be silent for `stall` s."""

    def __init__(self, answers=lambda number: answer(more=b"served-model-name: m\r\n" + TIMING), stall=1.0):
        self._answers = answers
        self._stall = stall
        self.requests = 0
        self._silent_until = 0.0
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self):
        self._thread.start()
        assert self._listening.wait(30)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def _run(self):
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._open = {}
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        await listening.close(server)
        tasks = list(self._open)
        for task in tasks:
            self._open[task].transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader, writer):
        """At once, not when a task first runs, which it may never do."""
        task = self._loop.create_task(self._serve(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    async def _serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                number, self.requests = self.requests, self.requests + 1
                said = self._answers(number)
                if said == "stall":
                    self._silent_until = self._loop.time() + self._stall
                    said = answer()
                if (left := self._silent_until - self._loop.time()) > 0:
                    await asyncio.sleep(left)
                if said is None:
                    break
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
