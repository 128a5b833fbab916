"""wrk with a POST body and its findings as numbers; and contenders that take turns, so that noise hits all alike."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
{authorization}
wrk.body = [==[{body}]==]
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'FOUND {{"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "failed": %d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Found:
    """What one run of wrk measured."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int

    @property
    def rate(self) -> float:
        """Good answers in a second."""
        return (self.requests - self.failed) / self.seconds


def wrk(url: str, body: str, *, connections: int, seconds: float, token: str = "") -> Found:
    """Load `url` from so many connections for so many (whole) seconds; one thread, the other core is for the servers."""
    binary = shutil.which("wrk")
    assert binary, "wrk is not installed; on Debian: apt-get install wrk"
    authorization = f'wrk.headers["Authorization"] = "Bearer {token}"' if token else ""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(_SCRIPT.format(body=body, authorization=authorization))
        command = [binary, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
        ran = subprocess.run(
            [*command, "-s", str(script), url], capture_output=True, text=True, check=True, timeout=seconds + 60
        )
    line = next(line for line in ran.stdout.splitlines() if line.startswith("FOUND "))
    return Found(**json.loads(line.removeprefix("FOUND ")))


def take_turns(rounds: int, contenders: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Each contender's result in each round; whoever began a round ends the next one."""
    found: dict[str, list[T]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            found[name].append(contenders[name]())
    return found
