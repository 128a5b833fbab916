"""A message of Envoy 1.40 that envoy-data-plane does not have yet."""

from __future__ import annotations

import betterproto2
from envoy_data_plane.google.protobuf import UInt64Value
from envoy_data_plane.message_pool import default_message_pool
from pydantic.dataclasses import dataclass


@dataclass(eq=False, repr=False)
class BodySizeLimit(betterproto2.Message):  # type: ignore[misc]  # betterproto2 has no types here
    """Refuses bodies by counting the bytes that pass, where the buffer filter would hold them all back first."""

    max_request_bytes: "int | None" = betterproto2.field(  # noqa: UP037 - betterproto2 reads the annotation as text
        1, betterproto2.TYPE_MESSAGE, unwrap=lambda: UInt64Value, optional=True
    )


default_message_pool.register_message(
    "envoy.extensions.filters.http.body_size_limit.v3", "BodySizeLimit", BodySizeLimit
)
