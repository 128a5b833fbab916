"""The REST API as this command line uses it: one method a call, JSON objects in and out, a Failure for everything else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import httpx

from controlplane.commands.connection import Connection
from controlplane.commands.failures import Missing, Refused, Unreachable

Json = dict[str, Any]

ENDPOINTS = "/api/2.0/serving-endpoints"
#: Seconds that a call to the control plane may take; a client of Databricks gives up after as long.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered, and the served model's name if the answer told."""

    body: Json
    served_model: str | None


class Client:
    """Speaks to one Wye over one kept-alive connection; a context manager that closes it.

    Every method raises Refused with the server's own words, or Unreachable when no answer of Wye's came back.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        headers = {"accept": "application/json", "user-agent": "wye-cli"}
        if connection.token:
            headers["authorization"] = f"Bearer {connection.token}"
        self._http = httpx.Client(headers=headers, timeout=PATIENCE, trust_env=not connection.loopback)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def list(self) -> Json:
        """Every endpoint, as `{"endpoints": […]}`."""
        return self._json("GET", ENDPOINTS)

    def get(self, name: str) -> Json:
        """One endpoint in detail."""
        return self._json("GET", f"{ENDPOINTS}/{_segment(name)}")

    def create(self, body: Json) -> Json:
        """Create an endpoint; answers it as it is at that moment."""
        return self._json("POST", ENDPOINTS, body)

    def update_config(self, name: str, config: Json) -> Json:
        """Replace an endpoint's config; answers the endpoint with that config pending."""
        return self._json("PUT", f"{ENDPOINTS}/{_segment(name)}/config", config)

    def put(self, name: str, body: Json, *, dry_run: bool = False) -> Json:
        """Create or update an endpoint; with `dry_run`, only tell what that would do."""
        return self._json("PUT", f"{ENDPOINTS}/{_segment(name)}{'?dry_run=true' if dry_run else ''}", body)

    def rollback(self, name: str, version: int | None) -> Json:
        """Go back to an earlier config version, the one before when none is named."""
        body = {} if version is None else {"config_version": version}
        return self._json("POST", f"{ENDPOINTS}/{_segment(name)}/config:rollback", body)

    def cancel(self, name: str) -> Json:
        """Call off the update that is in progress."""
        return self._json("POST", f"{ENDPOINTS}/{_segment(name)}/config:cancel", {})

    def history(self, name: str) -> Json:
        """Every config version there was, as `{"config_versions": […]}`."""
        return self._json("GET", f"{ENDPOINTS}/{_segment(name)}/config-versions")

    def logs(self, name: str, served: str, kind: str, version: int | None) -> Json:
        """What a served model's replicas printed (`logs`), or how their environment was built (`build-logs`)."""
        query = "" if version is None else f"?config_version={version}"
        return self._json("GET", f"{ENDPOINTS}/{_segment(name)}/served-models/{_segment(served)}/{kind}{query}")

    def openapi(self, name: str) -> Json:
        """What may be sent to an endpoint's served models, with an example of each."""
        return self._json("GET", f"{ENDPOINTS}/{_segment(name)}/openapi")

    def delete(self, name: str) -> Json:
        """Delete an endpoint."""
        return self._json("DELETE", f"{ENDPOINTS}/{_segment(name)}")

    def tokens(self, *, mine: bool) -> Json:
        """The tokens that are not revoked: the caller's, or everybody's."""
        return self._json("GET", "/api/2.0/token/list" if mine else "/api/2.0/token-management/tokens")

    def create_token(self, body: Json) -> Json:
        """Make a token; the answer is the only place where it is shown."""
        return self._json("POST", "/api/2.0/token/create", body)

    def revoke_token(self, token_id: str) -> Json:
        """Revoke a token; answers when every Envoy refuses it."""
        return self._json("POST", "/api/2.0/token/delete", {"token_id": token_id})

    def status(self) -> Json:
        """What the control plane says of itself."""
        return self._json("GET", "/api/2.0/wye/status")

    def query(self, name: str, content: bytes, content_type: str, model: str | None, patience: float) -> Prediction:
        """Predict with whichever model the split picks, or with `model`; waits `patience` seconds for the answer."""
        served = "" if model is None else f"/served-models/{_segment(model)}"
        response = self._send(
            "POST",
            f"/serving-endpoints/{_segment(name)}{served}/invocations",
            content=content,
            content_type=content_type,
            patience=patience,
        )
        return Prediction(self._understood(response), response.headers.get("served-model-name"))

    def _json(self, method: str, path: str, body: Json | None = None) -> Json:
        content = None if body is None else json.dumps(body).encode()
        return self._understood(self._send(method, path, content=content, content_type="application/json"))

    def _send(
        self, method: str, path: str, *, content: bytes | None, content_type: str, patience: float = PATIENCE
    ) -> httpx.Response:
        headers = None if content is None else {"content-type": content_type}
        timeout = httpx.Timeout(PATIENCE, read=patience)
        url = self._connection.url
        try:
            return self._http.request(method, url + path, content=content, headers=headers, timeout=timeout)
        except httpx.ReadTimeout as error:
            raise Unreachable(f"{url} did not answer within {patience:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            source = self._connection.source
            found = f" (from {source}; is `wye up` still running?)" if source else ""
            reason = str(error) or type(error).__name__
            raise Unreachable(f"cannot reach Wye at {url}{found}: {reason}") from error

    def _understood(self, response: httpx.Response) -> Json:
        try:
            body = json.loads(response.content)
        except (ValueError, RecursionError):
            body = None
        if isinstance(body, dict):
            if response.is_success:
                return body
            code, message = body.get("error_code"), body.get("message")
            if isinstance(code, str) and isinstance(message, str):
                if response.status_code == 404:
                    raise Missing(code, message)
                raise Refused(response.status_code, code, message)
        raise Unreachable(
            f"{self._connection.url} does not answer as Wye does: {response.request.method} {response.request.url.path} "
            f"gave status {response.status_code} and {_described(response)}"
        )


def _segment(name: str) -> str:
    return quote(name, safe="")


def _described(response: httpx.Response) -> str:
    if not response.content:
        return "an empty body"
    kind = response.headers.get("content-type", "no content type").partition(";")[0]
    beginning = " ".join(response.content[:200].decode("utf-8", "replace").split())[:80]
    return f"a body ({kind}) that begins {beginning!r}"
