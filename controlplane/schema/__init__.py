"""JSON ↔ domain: what clients send becomes values or problems, and values become what clients read. Does no I/O."""

from controlplane.schema.access import TokenRequest, parse_grants, parse_token, parse_token_id
from controlplane.schema.attributes import (
    Echoed,
    TagsPatch,
    parse_notifications,
    parse_tags_patch,
    parse_telemetry,
)
from controlplane.schema.difference import dry_run
from controlplane.schema.gateway import GatewaySettings, parse_ai_gateway, parse_rate_limits
from controlplane.schema.parse import (
    ConfigRequest,
    CreateRequest,
    examine_config,
    examine_create,
    parse_config,
    parse_create,
    parse_rollback,
    parse_version,
)
from controlplane.schema.render import (
    config_version,
    endpoint_details,
    endpoint_summary,
    rate_limits,
    tag_list,
)
from controlplane.schema.secret import SecretPut, parse_acl, parse_names, parse_secret
from controlplane.schema.status import is_ready
from controlplane.schema.text import JsonObject, canonical, read_object

__all__ = [
    "ConfigRequest",
    "CreateRequest",
    "Echoed",
    "GatewaySettings",
    "JsonObject",
    "SecretPut",
    "TagsPatch",
    "TokenRequest",
    "canonical",
    "config_version",
    "dry_run",
    "endpoint_details",
    "endpoint_summary",
    "examine_config",
    "examine_create",
    "is_ready",
    "parse_acl",
    "parse_ai_gateway",
    "parse_config",
    "parse_create",
    "parse_grants",
    "parse_names",
    "parse_notifications",
    "parse_rate_limits",
    "parse_rollback",
    "parse_secret",
    "parse_tags_patch",
    "parse_telemetry",
    "parse_token",
    "parse_token_id",
    "parse_version",
    "rate_limits",
    "read_object",
    "tag_list",
]
