"""Bodies about who may do what: grants on an endpoint, tokens. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from controlplane.domain import Grant, Permission, PrincipalKind
from controlplane.schema.fields import Fields, Findings
from controlplane.schema.text import JsonObject

LONGEST_NAME = 255
MOST_GRANTS = 100
MOST_GROUPS = 50
LONGEST_COMMENT = 1000
LONGEST_LIFETIME = 10 * 365 * 24 * 3600
#: Names become headers and rules of Envoy: no control characters, no space at either end.
_NAME = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?")


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token that is to be made."""

    comment: str
    lifetime_seconds: int | None
    #: For whom, when it is not for the caller; None: with the caller's own groups.
    user: str | None
    groups: tuple[str, ...] | None


def parse_grants(body: JsonObject) -> tuple[Grant, ...]:
    """The access control list in a body; raises ProblemError with all that is wrong with it."""
    findings = Findings()
    fields = Fields(body, "", findings)
    items = fields.objects("access_control_list") or []
    if len(items) > MOST_GRANTS:
        findings.add("access_control_list", f"has {len(items)} items; {MOST_GRANTS} are allowed")
    grants = [_grant(item, findings) for item in items if item is not None]
    findings.raise_any()
    return tuple(grant for grant in grants if grant is not None)


def parse_token(body: JsonObject) -> TokenRequest:
    """The token that a body asks for; raises ProblemError with all that is wrong with it."""
    findings = Findings()
    fields = Fields(body, "", findings)
    comment = fields.text("comment") or ""
    if len(comment) > LONGEST_COMMENT:
        findings.add("comment", f"has {len(comment)} characters; {LONGEST_COMMENT} are allowed")
    lifetime = fields.integer("lifetime_seconds")
    if lifetime is not None and not 0 < lifetime <= LONGEST_LIFETIME:
        findings.add("lifetime_seconds", f"is {lifetime}; it must lie between 1 and {LONGEST_LIFETIME}, or be left out")
    user = fields.text("user_name", "application_id")
    if user is not None:
        check_name(fields.at("user_name"), user, findings)
    groups = fields.texts("groups") if fields.has("groups") else None
    if groups is not None and len(groups) > MOST_GROUPS:
        findings.add("groups", f"has {len(groups)} groups; {MOST_GROUPS} are allowed")
    for index, group in enumerate(groups or ()):
        check_name(f"groups[{index}]", group, findings)
    findings.raise_any()
    return TokenRequest(comment, lifetime, user, groups if groups is None else tuple(sorted(set(groups))))


def parse_token_id(body: JsonObject) -> str:
    """The token that a body names; raises ProblemError."""
    findings = Findings()
    fields = Fields(body, "", findings)
    fields.required("token_id")
    token_id = fields.text("token_id")
    findings.raise_any()
    return token_id or ""


def check_name(path: str, name: str, findings: Findings) -> None:
    """Note it when this cannot be the name of a user or group."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        shown = repr(name[:80])
        findings.add(
            path, f"{shown} is not a name; use 1 to {LONGEST_NAME} characters without line breaks or outer spaces"
        )


def _grant(item: Fields, findings: Findings) -> Grant | None:
    kinds = [kind for kind in PrincipalKind if item.has(kind.value)]
    level = item.text("permission_level")
    item.required("permission_level")
    if level is not None and level not in set(Permission):
        findings.add(item.at("permission_level"), f"{level[:80]!r} is not a level; use {', '.join(Permission)}")
    if len(kinds) != 1:
        findings.add(item.path, f"must have exactly one of {', '.join(PrincipalKind)}")
        return None
    name = item.text(kinds[0].value)
    if name is not None:
        check_name(item.at(kinds[0].value), name, findings)
    if name is None or level not in set(Permission):
        return None
    return Grant(kinds[0], name, Permission(level))
