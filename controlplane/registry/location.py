"""Registry URIs as they may be shown, and artifact URIs as a worker can load them."""

from __future__ import annotations

from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import url2pathname


def without_credentials(uri: str) -> str:
    """The URI without user, password and query, any of which may be a secret."""
    parts = _split(uri)
    if parts is None:
        return "(an address that is not a URI)"
    if not parts.scheme or parts.scheme == "sqlite":
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def hide_credentials(text: str, uri: str) -> str:
    """`text` without any credential that `uri` holds."""
    parts = _split(uri)
    if parts is None:
        return text.replace(uri, "***")
    text = text.replace(uri, without_credentials(uri))
    user, at, _host = parts.netloc.rpartition("@")
    secrets = [f"{user}{at}", parts.query, parts.password or "", unquote(parts.password or "")]
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def loadable(artifact_uri: str) -> str:
    """A path when the artifacts are files of this machine, which needs no registry to be read; else the URI itself."""
    parts = _split(artifact_uri)
    if parts is not None and parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return url2pathname(parts.path)
    return artifact_uri


def _split(uri: str) -> SplitResult | None:
    try:
        return urlsplit(uri)
    except ValueError:
        return None
