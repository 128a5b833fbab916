"""What is packaged under which name, and whether it can live in one environment. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

#: These load a model and are no part of it, and keep loading what their older releases have saved: the latest will do.
_LOADERS = frozenset({"mlflow", "mlflow-skinny", "mlflow-tracing", "cloudpickle"})

#: A member's name is a folder's name, and a value of the parameter `model`.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class BundleError(Exception):
    """These models cannot be packaged together; the text says why, and what to change."""


@dataclass(frozen=True, slots=True)
class Member:
    """One model to be packaged."""

    name: str
    uri: str


def members(given: Sequence[str] | Mapping[str, str]) -> tuple[Member, ...]:
    """The members for `models:/a/1` (named `a`) or `name=models:/a/1` each, or for names with URIs.

    Raises BundleError.
    """
    pairs = given.items() if isinstance(given, Mapping) else [_named(text) for text in given]
    found = tuple(Member(name, uri) for name, uri in pairs)
    if not found:
        raise BundleError("name the models to be packaged, such as models:/a/1 models:/b@champion")
    for member in found:
        if not _NAME.fullmatch(member.name):
            raise BundleError(
                f"{member.name!r} cannot be a model's name in a bundle: say another one, such as first={member.uri}"
            )
    names = [member.name for member in found]
    for name in names:
        if names.count(name) > 1:
            raise BundleError(f"two models would be called {name!r}: say which is which, such as {name}-1=models:/…")
    return found


def merged(requirements: Mapping[str, Sequence[str]], chosen: Iterable[str] = ()) -> tuple[str, ...]:
    """One list of requirements that meets those of every member; `chosen` decides for the packages that it names.

    Raises BundleError that names every package on which members cannot agree.
    """
    decided = {canonicalize_name(requirement.name): requirement for requirement in map(_parsed, chosen)}
    wanted: dict[str, list[tuple[str, Requirement]]] = {}
    others: dict[str, None] = {}
    for member, lines in requirements.items():
        for line in lines:
            try:
                requirement = Requirement(line)
            except InvalidRequirement:
                others[line] = None
                continue
            name = canonicalize_name(requirement.name)
            if name not in decided:
                wanted.setdefault(f"{name};{requirement.marker or ''}", []).append((member, requirement))
    conflicts = []
    lines = [str(requirement) for requirement in decided.values()]
    for asked in wanted.values():
        agreed = _agreed([requirement for _, requirement in asked])
        if agreed is None:
            conflicts.append(
                f"{asked[0][1].name}: "
                + ", ".join(f"{member} needs {requirement.specifier}" for member, requirement in asked)
            )
        else:
            lines.append(agreed)
    if conflicts:
        raise BundleError(
            f"the models cannot share an environment. {'; '.join(sorted(conflicts))}. Package models that agree, or "
            "decide with --requirement (and test what comes out)"
        )
    return (*sorted(lines, key=str.lower), *others)


def common_python(pythons: Mapping[str, str]) -> str:
    """The Python that all members were saved with, the latest patch level; "" when none says.

    Raises BundleError.
    """
    minors = {tuple(python.split(".")[:2]) for python in pythons.values() if python}
    if len(minors) > 1:
        said = ", ".join(f"{member} has {python}" for member, python in pythons.items() if python)
        raise BundleError(f"the models were saved with different versions of Python: {said}")
    return max((python for python in pythons.values() if python), key=Version, default="")


def _named(text: str) -> tuple[str, str]:
    name, equals, uri = text.partition("=")
    if equals and not name.startswith("models:"):
        return name, uri
    registered = re.fullmatch(r"models:/+([^/@]+)(?:[/@].+)?", text)
    if registered is None:
        raise BundleError(f"{text!r} has no name: say which it is to have, such as first={text}")
    return registered[1], text


def _parsed(line: str) -> Requirement:
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise BundleError(f"{line!r} is not a requirement: {error}") from error


def _agreed(requirements: Sequence[Requirement]) -> str | None:
    """One requirement that means all of them, or None."""
    first = requirements[0]
    extras = sorted({extra for requirement in requirements for extra in requirement.extras})
    urls = {requirement.url for requirement in requirements}
    if len(urls) > 1:
        return None
    if first.url:
        return str(first)
    together = SpecifierSet(",".join(sorted({str(s) for r in requirements for s in r.specifier})))
    pins = sorted({Version(s.version) for s in together if s.operator == "==" and not s.version.endswith("*")})
    if canonicalize_name(first.name) in _LOADERS and pins and len({pin.major for pin in pins}) == 1:
        others = SpecifierSet(",".join(str(s) for s in together if s.operator != "=="))
        together = SpecifierSet(f"=={pins[-1]}") if others.contains(pins[-1], prereleases=True) else together
    if pins and not together.contains(pins[-1], prereleases=True):
        return None
    named = f"{first.name}[{','.join(extras)}]" if extras else first.name
    marker = f"; {first.marker}" if first.marker else ""
    return f"{named}{together}{marker}"
