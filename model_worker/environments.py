"""The Python environments that models run in. One for now: the one that the host itself runs in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

#: What of the host's own environment every process of a model gets.
_BASE_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")

#: What a replica may need to fetch its model's files, and loses again before any code of the model runs.
_FETCH_PREFIXES = ("MLFLOW_", "DATABRICKS_", "AWS_", "AZURE_", "GOOGLE_", "GS_", "S3_", "SSL_CERT_")
_FETCH_VARIABLES = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "REQUESTS_CA_BUNDLE"}
)

#: One thread for each numerical library: they must have none when the fork server forks, and replicas that share a
#: machine answer small requests fastest when they do not fight for cores. An entity's own variables win.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python interpreter with its packages."""

    key: str
    python: str


#: The packages that Wye itself was installed with.
BASE = Environment("base", sys.executable)


def base_variables(host: Mapping[str, str]) -> dict[str, str]:
    """The variables that every model sees, from those of the host."""
    kept = {name: host[name] for name in _BASE_VARIABLES if name in host}
    # Telemetry would start a thread in the fork server, and phone home from every replica.
    return kept | _ONE_THREAD | {"MLFLOW_DISABLE_TELEMETRY": "true"}


def fork_server_variables(host: Mapping[str, str]) -> dict[str, str]:
    """The variables of a fork server: nothing secret, because its children's `/proc/self/environ` shows them."""
    # pyarrow, which pandas imports, brings a memory allocator with a thread of its own.
    return base_variables(host) | {"JE_ARROW_MALLOC_CONF": "background_thread:false"}


def fetch_variables(host: Mapping[str, str]) -> dict[str, str]:
    """The variables of the host that reading artifacts may need: where they are, and how to get in."""
    return {name: value for name, value in host.items() if name.startswith(_FETCH_PREFIXES) or name in _FETCH_VARIABLES}
