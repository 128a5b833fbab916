"""What survives a restart: endpoints and every config version that was ever accepted. Knows SQL, decides nothing."""

from controlplane.store.endpoints import Endpoints
from controlplane.store.errors import StaleWriteError, StoreUnavailableError
from controlplane.store.secrets import Secrets
from controlplane.store.store import Store
from controlplane.store.tokens import Tokens

__all__ = ["Endpoints", "Secrets", "StaleWriteError", "Store", "StoreUnavailableError", "Tokens"]
