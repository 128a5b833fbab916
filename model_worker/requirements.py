"""What a model says that it needs, and whether what is installed is that. Reads files; decides the rest on values.

The rules are told to users in `docs/environments.md`.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

#: Packages that load a model rather than being a part of it, and keep loading what their older releases have saved.
#: A pin `==X.Y.Z` of one of them is met by any later release of the same major version.
LOADERS = frozenset({"mlflow", "mlflow-skinny", "mlflow-tracing", "cloudpickle"})

#: Options of a requirements file that change nothing about what has to be installed.
_HARMLESS = (
    "--index-url",
    "--extra-index-url",
    "--find-links",
    "--trusted-host",
    "--no-index",
    "--prefer-binary",
    "--pre",
    "--no-binary",
    "--only-binary",
    "--use-feature",
    "-i",
    "-f",
)

#: Name of a package → its installed version, or None.
Installed = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Needs:
    """A model's requirements as they are written in its folder."""

    folder: Path
    #: As in `python_env.yaml`; empty when the model does not say.
    python: str = ""
    #: One requirement or option each, comments removed; files that are included are replaced by their lines.
    lines: tuple[str, ...] = ()
    #: What packages must be if they are there at all.
    constraints: tuple[str, ...] = ()


def read(folder: Path) -> Needs:
    """What the model in this folder needs; a folder that says nothing needs nothing.

    Raises OSError, UnicodeError, yaml.YAMLError for files that cannot be read.
    """
    lines: list[str] = []
    constraints: list[str] = []
    python = ""
    if (folder / "requirements.txt").is_file():
        _collect(folder / "requirements.txt", lines, constraints, set())
    elif (folder / "conda.yaml").is_file():
        python, lines = _from_conda(folder / "conda.yaml")
    if (folder / "python_env.yaml").is_file():
        env = yaml.safe_load((folder / "python_env.yaml").read_text(encoding="utf-8"))
        python = str(env.get("python") or "") if isinstance(env, dict) else ""
    return Needs(folder, python, tuple(lines), tuple(constraints))


def installed(name: str) -> str | None:
    """The version of a package in this process's own environment."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def unmet(needs: Needs, python: str, present: Installed = installed) -> list[str]:
    """What is missing or different here, in words; empty when the model can run with what is `present`."""
    reasons = []
    if needs.python and minor(needs.python) != minor(python):
        reasons.append(f"Python {needs.python} (this is {python})")
    for line in needs.lines:
        reasons += _unmet_line(line, present)
    for line in needs.constraints:
        try:
            constraint = Requirement(line)
        except InvalidRequirement:
            continue  # of something that is no released package, so it is none of those that are needed
        if present(constraint.name) is not None:
            reasons += _unmet(constraint, present)
    return list(dict.fromkeys(reasons))


def minor(python: str) -> str:
    """`3.11` of `3.11.7`."""
    return ".".join(python.split(".")[:2])


def names(needs: Needs) -> set[str]:
    """The packages that are named directly."""
    found: set[str] = set()
    for line in needs.lines:
        try:
            found.add(canonicalize_name(Requirement(line).name))
        except InvalidRequirement:
            continue
    return found


def pinned(needs: Needs, name: str) -> Version | None:
    """The version that a package is pinned to, if it is."""
    for line in needs.lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if canonicalize_name(requirement.name) == name:
            for specifier in requirement.specifier:
                if specifier.operator == "==":
                    return _version(specifier.version)
    return None


def refers_to_files(needs: Needs) -> bool:
    """True when a requirement is something else than a released package, such as a file beside the model."""
    return any(_is_opaque(line) for line in needs.lines)


def _unmet_line(line: str, present: Installed) -> list[str]:
    if line.startswith("-"):
        return [] if line.startswith(_HARMLESS) else [line]
    try:
        return _unmet(Requirement(line), present)
    except InvalidRequirement:
        return [f"{line} (cannot be compared with what is installed)"]


def _unmet(requirement: Requirement, present: Installed) -> list[str]:
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return []
    if requirement.url:
        return [f"{requirement} (cannot be compared with what is installed)"]
    version = present(canonicalize_name(requirement.name))
    if version is None:
        return [f"{requirement} (not installed)"]
    if not requirement.specifier.contains(version, prereleases=True) and not _tolerated(requirement, version):
        return [f"{requirement} (installed: {version})"]
    return [reason for extra in sorted(requirement.extras) for reason in _unmet_extra(requirement.name, extra, present)]


def _unmet_extra(name: str, extra: str, present: Installed) -> list[str]:
    """What the extra of an installed package needs beyond the package."""
    reasons = []
    for line in importlib.metadata.requires(name) or ():
        requirement = Requirement(line)
        marker, requirement.marker = requirement.marker, None
        if marker is not None and not marker.evaluate({"extra": ""}) and marker.evaluate({"extra": extra}):
            reasons += _unmet(requirement, present)
    return reasons


def _tolerated(requirement: Requirement, version: str) -> bool:
    """True for a loader that differs from its pin by being a later release of the same major version."""
    here = _version(version)
    if canonicalize_name(requirement.name) not in LOADERS or here is None:
        return False
    missed = [specifier for specifier in requirement.specifier if not specifier.contains(version, prereleases=True)]
    pins = [_version(specifier.version) for specifier in missed if specifier.operator == "=="]
    return len(pins) == len(missed) and all(pin and pin.major == here.major and pin <= here for pin in pins)


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _is_opaque(line: str) -> bool:
    if line.startswith("-"):
        return not line.startswith(_HARMLESS)
    try:
        return Requirement(line).url is not None
    except InvalidRequirement:
        return True


def _collect(path: Path, lines: list[str], constraints: list[str], seen: set[Path]) -> None:
    """Add the lines of a requirements file, those of the files that it includes in their place."""
    if path in seen:
        return
    seen.add(path)
    for line in _logical_lines(path):
        option, _, target = re.sub(r"^(-r|-c)(?=[^\s])", r"\1 ", line).replace("=", " ", 1).partition(" ")
        target = target.strip()
        if option in {"-r", "--requirement"}:
            _collect(path.parent / target, lines, constraints, seen)
        elif option in {"-c", "--constraint"}:
            included: list[str] = []
            _collect(path.parent / target, included, constraints, seen)
            constraints += included
        else:
            lines.append(line)


def _logical_lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        text = re.sub(r"(^|\s+)#.*$", "", line)
        text = re.sub(r"\s+--hash[=\s]\S+", "", text).strip()
        if text:
            yield text


def _from_conda(path: Path) -> tuple[str, list[str]]:
    """Python's version and the pip requirements of models that have no `requirements.txt`, as MLflow 1 wrote them."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    python, lines = "", []
    for dependency in (document or {}).get("dependencies") or ():
        if isinstance(dependency, dict):
            lines += [str(line) for line in dependency.get("pip") or ()]
        elif found := re.fullmatch(r"python\s*={1,2}\s*([0-9.]+).*", str(dependency)):
            python = found[1]
    return python, lines
