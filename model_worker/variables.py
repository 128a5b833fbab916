"""Environment variables: which of the host's own each kind of process gets. Pure."""

from __future__ import annotations

from collections.abc import Mapping

#: What of the host's own environment every process of a model gets.
_BASE_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")

_PROXIES = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"}
)

#: What a process that fetches a model's files may need; no code of a model ever runs in one.
_FETCH_PREFIXES = ("MLFLOW_", "DATABRICKS_", "AWS_", "AZURE_", "GOOGLE_", "GS_", "S3_", "SSL_CERT_")
_FETCH_VARIABLES = _PROXIES | {"REQUESTS_CA_BUNDLE"}

#: What `uv` may need. Building a source distribution runs its author's code, so nothing beyond it.
_INSTALL_PREFIXES = ("UV_", "SSL_CERT_", "XDG_")
_INSTALL_VARIABLES = _PROXIES | {"NETRC", "RUST_LOG"}
#: These would make it install into, or with, something else than it is told to.
_NOT_FOR_INSTALLS = frozenset(
    {"UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_PROJECT", "UV_WORKING_DIR"}
)

#: One thread for each numerical library: they must have none when the fork server forks, and replicas that share a
#: machine answer small requests fastest when they do not fight for cores. An entity's own variables win: `confine.py`.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


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
    """The variables of a process that reads artifacts: where they are, and how to get in."""
    needed = {
        name: value for name, value in host.items() if name.startswith(_FETCH_PREFIXES) or name in _FETCH_VARIABLES
    }
    return base_variables(host) | needed


def install_variables(host: Mapping[str, str]) -> dict[str, str]:
    """The variables of `uv`, as far as they are variables; see `indexes.py` for pip's own."""
    kept = {name: host[name] for name in _BASE_VARIABLES if name in host}
    needed = {
        name: value for name, value in host.items() if name.startswith(_INSTALL_PREFIXES) or name in _INSTALL_VARIABLES
    }
    return {name: value for name, value in (kept | needed).items() if name not in _NOT_FOR_INSTALLS}
