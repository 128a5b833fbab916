"""The API and the page as one WSGI application: two Flask applications, so that neither's errors look like the other's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def mounted(api: Wsgi, page: Wsgi) -> Wsgi:
    """`page` for `/ui/…`, `api` for everything else."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        chosen = page if environ.get("PATH_INFO", "").startswith("/ui/") else api
        return chosen(environ, start_response)

    return application
