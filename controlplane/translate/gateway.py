"""What Envoy needs to know besides endpoints: where to listen, where the control plane is, and the limits."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain import Address

#: `Gateway.access_log` that means Envoy's standard output.
STDOUT = "stdout"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The part of the settings that ends up in Envoy's configuration."""

    #: Where users connect.
    public: Address
    #: Where Envoy reaches the control plane's REST API; of several control planes, all of them.
    api: tuple[Address, ...]
    #: Answered at `/.well-known/databricks-config`; digits, because clients read it as a number.
    workspace_id: str = "1"
    #: Seconds that a prediction may take, its wait for a replica included.
    request_timeout: float = 297.0
    #: Seconds for a call of the control plane's API.
    api_timeout: float = 60.0
    #: Seconds after which an idle connection to a replica is closed: less than the replica's own 75 s, because a replica
    #: that closes first may do so just as a request is on its way, and less than the time after which it is sent to sleep.
    upstream_idle: float = 60.0
    #: Most connections and most requests at a time that Envoy lets through to one served entity.
    max_connections: int = 1024
    max_requests: int = 4096
    #: Bytes that a request's body may have.
    max_body: int = 16 * 1024 * 1024
    #: JSON Web Key Set that tokens are verified with; "" switches authentication off.
    jwks: str = ""
    #: The file that Envoy writes its access log to, STDOUT, or "" for none.
    access_log: str = ""
    #: URL of an OpenTelemetry collector (OTLP over HTTP), without a slash at its end; "": there are no traces.
    otlp: str = ""
    #: Per cent of the requests that are traced, of those whose caller has not decided it.
    trace_percent: float = 100.0
