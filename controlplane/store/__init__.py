"""What survives a restart: endpoints and every config version that was ever accepted. Knows SQL, decides nothing."""

from controlplane.store.again import insist, resolve_doubts
from controlplane.store.endpoints import Endpoints
from controlplane.store.errors import DeposedError, StaleWriteError, StoreUnavailableError, StoreUnusableError
from controlplane.store.lease import Lease, Peer, View
from controlplane.store.secrets import Secrets
from controlplane.store.store import Store
from controlplane.store.tokens import Tokens

__all__ = [
    "DeposedError",
    "Endpoints",
    "Lease",
    "Peer",
    "Secrets",
    "StaleWriteError",
    "Store",
    "StoreUnavailableError",
    "StoreUnusableError",
    "Tokens",
    "View",
    "insist",
    "resolve_doubts",
]
