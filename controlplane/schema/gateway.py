"""Rate limits and AI gateway settings of a body: what is enforced as values, the rest checked, kept and given back."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain import LimitKey, ProblemCode, RateLimit
from controlplane.schema import rules
from controlplane.schema.fields import Fields, Findings
from controlplane.schema.text import JsonObject

#: Whom the limits of the deprecated call may count.
OLD_KEYS = (LimitKey.ENDPOINT, LimitKey.USER)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The AI gateway of an endpoint."""

    limits: tuple[RateLimit, ...] = ()
    #: As `Endpoint.echoed`; empty when the gateway was removed.
    echoed: tuple[tuple[str, str], ...] = ()


def parse_rate_limits(body: JsonObject) -> tuple[RateLimit, ...]:
    """The limits that a rate limits body asks for; raises ProblemError with all that is wrong with it."""
    findings = Findings()
    limits = read_limits(Fields(body, "", findings), findings, OLD_KEYS)
    findings.raise_any()
    return limits


def parse_ai_gateway(body: JsonObject) -> GatewaySettings:
    """The settings that an AI gateway body asks for; raises ProblemError with all that is wrong with it."""
    findings = Findings()
    gateway = read_gateway(Fields({"ai_gateway": body}, "", findings), findings, within="")
    findings.raise_any()
    return gateway


def read_limits(
    fields: Fields, findings: Findings, keys: tuple[LimitKey, ...] = tuple(LimitKey)
) -> tuple[RateLimit, ...]:
    """The field `rate_limits` of a body."""
    items = fields.objects("rate_limits") or []
    limits = tuple(limit for item in items if item is not None and (limit := _limit(item, findings, keys)) is not None)
    path = fields.at("rate_limits")
    findings.extend(rules.limit_count(path, limits))
    findings.extend(rules.limits_once_each(path, limits))
    return limits


def read_gateway(fields: Fields, findings: Findings, within: str | None = None) -> GatewaySettings:
    """The field `ai_gateway` of a body; `within` is its path where that is not its name."""
    gateway = fields.object("ai_gateway")
    if gateway is None:
        return GatewaySettings()
    if within is not None:
        gateway.path = within
    _fallback(gateway)
    _guardrails(gateway, findings)
    _table(gateway)
    usage = gateway.object("usage_tracking_config")
    if usage is not None:
        usage.flag("enabled")
    limits = read_limits(gateway, findings)
    return GatewaySettings(limits, fields.kept("ai_gateway") if gateway.any() else ())


def _limit(item: Fields, findings: Findings, keys: tuple[LimitKey, ...]) -> RateLimit | None:
    if item.raw("tokens"):
        message = "is not supported: Wye counts calls, it does not see tokens; give calls"
        findings.add(item.at("tokens"), message, ProblemCode.NOT_IMPLEMENTED)
        return None
    calls = item.integer("calls")
    item.required("calls")
    if calls is not None:
        findings.extend(rules.limit_calls(item.at("calls"), calls))
    period = item.text("renewal_period")
    item.required("renewal_period")
    if period is not None:
        findings.extend(rules.one_of(item.at("renewal_period"), period, ["minute"]))
    word = item.text("key") or LimitKey.ENDPOINT.value
    findings.extend(rules.one_of(item.at("key"), word, [key.value for key in keys]))
    key = next((key for key in keys if key.value == word), None)
    principal = item.text("principal") or ""
    if key is None or calls is None:
        return None
    findings.extend(rules.limit_principal(item.at("principal"), key, principal))
    return RateLimit(calls, key, principal)


def _fallback(gateway: Fields) -> None:
    fallback = gateway.object("fallback_config")
    if fallback is not None:
        fallback.flag("enabled")


def _guardrails(gateway: Fields, findings: Findings) -> None:
    """Guardrails that would guard are refused: who asks for one must not believe that it is there."""
    guardrails = gateway.object("guardrails")
    for side in ("input", "output"):
        rails = guardrails.object(side) if guardrails is not None else None
        if rails is None:
            continue
        pii = rails.object("pii")
        behavior = (pii.text("behavior") if pii is not None else None) or "NONE"
        if behavior != "NONE" or rails.flag("safety") or rails.texts("invalid_keywords") or rails.texts("valid_topics"):
            message = "is not supported: Wye does not look into requests; check them in the model"
            findings.add(rails.path, message, ProblemCode.NOT_IMPLEMENTED)


def _table(gateway: Fields) -> None:
    table = gateway.object("inference_table_config")
    if table is not None:
        table.flag("enabled")
        for key in ("catalog_name", "schema_name", "table_name_prefix"):
            table.text(key)
