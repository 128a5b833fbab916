"""The list of revoked tokens, which is put together from bytes: it must be the message that it stands for."""

from __future__ import annotations

import pytest
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.rbac.v3 import Action, RbacAction
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.type.matcher.v3 import HttpRequestHeaderMatchInput

from controlplane.translate.authentication import revoked_tokens


@pytest.mark.parametrize("ids", [(), ("b",), ("b", "a", "c")], ids=len)
def test_the_bytes_are_a_map_that_denies_these_and_allows_others(ids: tuple[str, ...]) -> None:
    """Looked up by the header that the verified token fills in; in whatever order, the bytes are the same."""
    resource = revoked_tokens(ids)
    assert resource == revoked_tokens(reversed(ids))
    config = TypedExtensionConfig.parse(resource.body)
    assert (config.name, resource.name) == ("revoked-tokens", "revoked-tokens")
    rbac = config.typed_config.unpack() if config.typed_config else None
    assert isinstance(rbac, Rbac)
    assert rbac.rules is None
    if not ids:
        assert rbac.matcher is None
        return
    tree = rbac.matcher.matcher_tree
    assert tree.input.typed_config.unpack() == HttpRequestHeaderMatchInput(header_name="x-wye-token")
    found = {key: on.action.typed_config.unpack() for key, on in tree.exact_match_map.map.items()}
    assert found == dict.fromkeys(ids, Action(name="revoked", action=RbacAction.DENY))
    allowed = rbac.matcher.on_no_match.action.typed_config.unpack()
    assert allowed == Action(name="not revoked", action=RbacAction.ALLOW)
