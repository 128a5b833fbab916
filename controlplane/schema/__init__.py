"""JSON ↔ domain: what clients send becomes values or problems, and values become what clients read. Does no I/O."""

from controlplane.schema.parse import ConfigRequest, CreateRequest, parse_config, parse_create
from controlplane.schema.render import Permission, config_version, endpoint_details, endpoint_summary
from controlplane.schema.text import JsonObject, canonical, read_object

__all__ = [
    "ConfigRequest",
    "CreateRequest",
    "JsonObject",
    "Permission",
    "canonical",
    "config_version",
    "endpoint_details",
    "endpoint_summary",
    "parse_config",
    "parse_create",
    "read_object",
]
