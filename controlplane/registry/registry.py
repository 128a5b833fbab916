"""The MLflow registry, asked through a process of its own that is started when there is a question."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from typing import IO, Any

from controlplane.domain import Problem, ProblemCode, ProblemError
from controlplane.domain.model import ModelDescription, ModelVersion
from controlplane.registry.location import without_credentials
from controlplane.registry.model_registry import unavailable

#: Less than the 60 s after which the SDKs give up a request and send it again.
ANSWER_SECONDS = 30.0


class Registry:
    """The MLflow registry at `tracking_uri`. Safe to use from any thread; questions are answered one by one."""

    def __init__(self, tracking_uri: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._uri = tracking_uri
        self._answer_seconds = answer_seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def warm(self) -> None:
        """Start getting ready, so that the first question need not wait for MLflow's import; returns at once."""
        with self._lock:
            self._running()

    def resolve(self, model: str, version: str) -> str:
        """As `ModelRegistry.resolve`; takes at most `answer_seconds` once the questions before it are answered."""
        return str(self._answer({"ask": "artifact_uri", "model": model, "version": version})["artifact_uri"])

    def version_of(self, model: str, alias: str) -> str:
        """As `ModelRegistry.version_of`; takes as long as `resolve`."""
        return str(self._answer({"ask": "version", "model": model, "alias": alias})["version"])

    def describe(self, artifact_uri: str) -> ModelDescription:
        """As `ModelRegistry.describe`; takes as long as `resolve`."""
        return ModelDescription(**self._answer({"ask": "description", "artifact_uri": artifact_uri}))

    def models(self, contains: str) -> tuple[str, ...]:
        """As `ModelRegistry.models`; takes as long as `resolve`."""
        return tuple(self._answer({"ask": "models", "contains": contains})["models"])

    def versions(self, model: str) -> tuple[ModelVersion, ...]:
        """As `ModelRegistry.versions`; takes as long as `resolve`."""
        found = self._answer({"ask": "versions", "model": model})["versions"]
        return tuple(ModelVersion(each["version"], tuple(each["aliases"]), each["status"]) for each in found)

    def close(self) -> None:
        """End the process that asks MLflow; a later question starts it again."""
        with self._lock:
            self._end()

    def _answer(self, question: dict[str, str]) -> dict[str, Any]:
        with self._lock:
            answer = self._ask(json.dumps(question).encode() + b"\n")
        if "code" in answer:
            raise ProblemError(Problem("", ProblemCode[answer["code"]], answer["message"]))
        return answer

    def _ask(self, question: bytes) -> dict[str, Any]:
        child = self._running()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(question)
            child.stdin.flush()
            line = _line(child.stdout, self._answer_seconds)
        except BrokenPipeError:
            line = b""
        except TimeoutError:
            self._end()
            raise unavailable(self._where(), f"no answer within {self._answer_seconds:g} s") from None
        if not line:
            code = child.wait()
            self._end()
            raise unavailable(self._where(), f"MLflow ended with exit code {code}; its output is in the log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self._end()
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "controlplane.registry.lookup"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C in the terminal is for us; our end is the end of its input
            )
            assert self._child.stdin is not None
            self._child.stdin.write(self._uri.encode() + b"\n")  # far less than a pipe holds, so this never waits
            self._child.stdin.flush()
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            with (
                contextlib.suppress(BrokenPipeError),
                child,
            ):  # closes its pipes, perhaps with a question in them, and waits for it
                pass

    def _where(self) -> str:
        return without_credentials(self._uri)


def _line(stream: IO[bytes], seconds: float) -> bytes:
    """The next line, b"" at the end of the stream; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            chunk = os.read(stream.fileno(), 65536)
            if not chunk:
                return b""
            line += chunk
    return line
