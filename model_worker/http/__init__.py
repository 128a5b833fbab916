"""The service over HTTP/1.1: paths, methods, headers and clients that misbehave, and nothing of models.

A server of its own, on httptools' parser: one callback and one write a request, where ASGI takes a task, two messages and
several awaits (docs/worker.md has the figures).
"""

from model_worker.http.bounds import Bounds
from model_worker.http.server import Server

__all__ = ["Bounds", "Server"]
