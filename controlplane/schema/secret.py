"""Bodies of the secrets calls. Pure, and nothing here may put a value into a message."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from controlplane.domain import SecretAcl, SecretPermission
from controlplane.schema.fields import Fields, Findings
from controlplane.schema.text import JsonObject

LARGEST_VALUE = 128 * 1024
LONGEST_PRINCIPAL = 255
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,128}")


@dataclass(frozen=True, slots=True)
class SecretPut:
    """A secret that is to be kept."""

    scope: str
    key: str
    value: bytes


def parse_names(body: JsonObject, *names: str) -> tuple[str, ...]:
    """The values of these required fields, each a name; raises ProblemError with all that is wrong."""
    findings = Findings()
    found = tuple(_name(Fields(body, "", findings), name, findings) for name in names)
    findings.raise_any()
    return found


def parse_secret(body: JsonObject) -> SecretPut:
    """The secret in a body; raises ProblemError."""
    findings = Findings()
    fields = Fields(body, "", findings)
    scope, key = _name(fields, "scope", findings), _name(fields, "key", findings)
    text, coded = fields.raw("string_value"), fields.raw("bytes_value")
    value = b""
    if (text is None) == (coded is None):
        findings.add("string_value", "send either string_value or bytes_value")
    elif not isinstance(text if coded is None else coded, str):
        findings.add("string_value" if coded is None else "bytes_value", "must be a string")
    elif coded is None:
        value = text.encode(errors="surrogatepass")
    else:
        try:
            value = base64.b64decode(coded, validate=True)
        except (binascii.Error, ValueError):
            findings.add("bytes_value", "is not base64")
    if len(value) > LARGEST_VALUE:
        findings.add("string_value", f"has {len(value)} bytes; {LARGEST_VALUE} are allowed")
    if b"\0" in value:
        findings.add("string_value", "holds NUL, which no environment variable can")
    findings.raise_any()
    return SecretPut(scope, key, value)


def parse_acl(body: JsonObject) -> tuple[str, SecretAcl]:
    """The scope and the entry for its access list in a body; raises ProblemError."""
    findings = Findings()
    fields = Fields(body, "", findings)
    scope = _name(fields, "scope", findings)
    fields.required("principal")
    fields.required("permission")
    principal, permission = fields.text("principal") or "", fields.text("permission")
    if len(principal) > LONGEST_PRINCIPAL:
        findings.add("principal", f"has {len(principal)} characters; {LONGEST_PRINCIPAL} are allowed")
    if permission is not None and permission not in set(SecretPermission):
        findings.add("permission", f"{permission[:80]!r} is no permission; use {', '.join(SecretPermission)}")
    findings.raise_any()
    return scope, SecretAcl(principal, SecretPermission(permission or ""))


def _name(fields: Fields, field: str, findings: Findings) -> str:
    fields.required(field)
    name = fields.text(field)
    if name is not None and field != "principal" and not _NAME.fullmatch(name):
        findings.add(field, f"{name[:80]!r} is not a name; use 1 to 128 letters, digits, '-', '_', '@' and '.'")
    return name or ""
