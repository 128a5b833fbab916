"""Where packages come from on this machine: pip's configuration in the words of uv, which does not read it."""

from __future__ import annotations

import configparser
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

#: pip's setting → uv's variable, and what several values are joined with.
_SAME = (
    ("index-url", "UV_DEFAULT_INDEX", " "),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("no-index", "UV_NO_INDEX", ""),
    ("trusted-host", "UV_INSECURE_HOST", " "),
    ("constraint", "UV_CONSTRAINT", " "),
    ("cert", "SSL_CERT_FILE", ""),
    ("timeout", "UV_HTTP_TIMEOUT", ""),
    ("default-timeout", "UV_HTTP_TIMEOUT", ""),
)
#: uv's older names for the same; whoever sets one has said what uv is to do.
_OLDER = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}


def pip_files(host: Mapping[str, str]) -> list[Path]:
    """The configuration files of pip, the one that wins last."""
    given = host.get("PIP_CONFIG_FILE", "")
    if given == "/dev/null":
        return []
    home = Path(host.get("HOME", "/"))
    config = Path(host.get("XDG_CONFIG_HOME", "") or home / ".config")
    usual: list[str | Path] = [
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        home / ".pip/pip.conf",
        config / "pip/pip.conf",
    ]
    paths: list[str | Path] = [*usual, Path(sys.prefix) / "pip.conf", *([given] if given else [])]
    return [Path(path) for path in paths]


def uv_variables(host: Mapping[str, str], files: Iterable[Path]) -> dict[str, str]:
    """The variables that tell uv what pip is told by its files and by its variables; uv's own, where set, are left alone."""
    settings: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeError):
            continue  # pip will complain to its users
        for section in ("global", "install"):
            settings.update(parser.items(section) if parser.has_section(section) else ())
    settings.update(
        (name.removeprefix("PIP_").lower().replace("_", "-"), value)
        for name, value in host.items()
        if name.startswith("PIP_") and value
    )
    found: dict[str, str] = {}
    for setting, variable, joint in _SAME:
        if setting in settings and variable not in host and _OLDER.get(variable) not in host:
            values = settings[setting].split()
            found[variable] = joint.join(values) if joint else settings[setting].strip()
    return found
