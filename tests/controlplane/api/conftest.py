"""The API under test, as a fixture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane import keys
from controlplane.api import create_app
from controlplane.api.deps import Auth
from controlplane.store import Secrets, Store, Tokens
from tests.controlplane.api.harness import Api, Guarded


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API without endpoints."""
    with Store(f"sqlite:///{tmp_path}/wye.db") as store:
        yield Api(store)


@pytest.fixture
def guarded(api: Api, tmp_path: Path) -> Guarded:
    """The API with tokens on."""
    with closing(api.store.engine.raw_connection()) as connection:
        connection.driver_connection.execute("PRAGMA synchronous=OFF")  # a thousand endpoints, and no power fails
    made, announced = keys.load_or_make(tmp_path / "keys"), list[str]()
    tokens = Tokens(api.store)
    tokens.add(made.admin)

    def announce() -> str:
        announced.extend(tokens.revoked(0))
        return ""

    auth = Auth(made.signer, tokens, made.admin, announce)
    secrets = Secrets(api.store, keys.secrets_key(tmp_path / "keys"))
    app = create_app(replace(api.deps, auth=auth, secrets=secrets))
    return Guarded(api, app.test_client(), announced)
