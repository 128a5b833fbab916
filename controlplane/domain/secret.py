"""Secrets: named values in scopes, and who may read or change those of a scope."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_REFERENCE = re.compile(r"\{\{\s*secrets/([^/{}\s]+)/([^/{}\s]+)\s*\}\}")


class SecretPermission(StrEnum):
    """What somebody may do with a scope; each includes the ones before. The strings are the API's."""

    READ = "READ"
    WRITE = "WRITE"
    MANAGE = "MANAGE"

    def includes(self, other: SecretPermission) -> bool:
        """True when whoever has this may do what needs the other."""
        order = tuple(SecretPermission)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class SecretAcl:
    """A principal's permission on a scope; a name means a user, a service principal or a group, as in the API."""

    principal: str
    permission: SecretPermission


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """All of a secret that is ever shown."""

    key: str
    updated_ms: int


def secret_reference(value: str) -> tuple[str, str] | None:
    """The scope and key that an environment variable's value refers to, or None for a plain value."""
    match = _REFERENCE.fullmatch(value)
    return (match[1], match[2]) if match else None
