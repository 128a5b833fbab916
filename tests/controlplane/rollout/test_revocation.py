"""Every Envoy hears of a revoked token, sooner or later."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controlplane.clock import SystemClock
from controlplane.discovery.hub import Hub
from controlplane.domain import Token
from controlplane.rollout.revocation import Revocations
from controlplane.store import Store, StoreUnavailableError, Tokens
from controlplane.translate.authentication import revoked_tokens


def test_a_list_that_cannot_be_read_is_published_when_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever revoked is told that not every Envoy knows; nothing need be sent again for them to know in the end."""
    monkeypatch.setattr("controlplane.store.again.PAUSE", 0.001)

    async def test(store: Store) -> None:
        tokens, hub, away = Tokens(store), Hub(SystemClock()), [True]
        tokens.add(Token("t1", "alice", (), "", "a", 0, None, None))
        tokens.revoke("t1", 1)
        read = tokens.revoked

        def revoked(now_ms: int) -> list[str]:
            if away:
                raise StoreUnavailableError("it is away")
            return list(read(now_ms))

        monkeypatch.setattr(tokens, "revoked", revoked)
        verdict = await Revocations(tokens, hub, SystemClock()).announce(0.01)
        assert not verdict.done
        assert "does not answer" in verdict.waiting[0]
        away.clear()
        listed = revoked_tokens(["t1"])
        async with asyncio.timeout(60):
            while listed.name not in hub.snapshot.of(listed.type_url):  # noqa: ASYNC110 - a snapshot has no event
                await asyncio.sleep(0.001)
        assert hub.snapshot.of(listed.type_url)[listed.name] == listed

    with Store(f"sqlite:///{tmp_path}/wye.db") as store:
        asyncio.run(test(store))
