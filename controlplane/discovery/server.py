"""The gRPC face of the hub: every xDS service of the v3 API, ADS and separate, delta and state of the world."""

from __future__ import annotations

from controlplane.discovery.hub import Hub
from controlplane.domain import Address


class Server:
    """A listening xDS server. (Signatures first; bodies follow.)"""

    @property
    def address(self) -> Address:
        """Where it listens, with the port that was chosen when 0 was asked for."""
        raise NotImplementedError

    async def stop(self, grace: float = 1.0) -> None:
        """End every stream and stop listening; Envoys keep what they have."""
        raise NotImplementedError


async def serve(hub: Hub, address: Address) -> Server:
    """A server that is listening when this returns; raises OSError when it cannot."""
    raise NotImplementedError
