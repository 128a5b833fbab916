"""Whether one client uses one resource at one version, and in words for the user why not. PURE."""

from __future__ import annotations

from controlplane.discovery.session import Session
from controlplane.translate.snapshot import Key

_KIND = {
    "Cluster": "cluster",
    "ClusterLoadAssignment": "endpoints",
    "Secret": "secret",
    "TypedExtensionConfig": "extension",
    "Listener": "listener",
    "ScopedRouteConfiguration": "scope",
    "RouteConfiguration": "routes",
    "VirtualHost": "virtual host",
    "Runtime": "runtime",
}


def title(key: Key) -> str:
    """`cluster a`: what a resource is called in messages."""
    kind = key[0].rpartition(".")[2]
    return f"{_KIND.get(kind, kind)} {key[1]}"


def obstacle(session: Session, key: Key, version: str | None) -> str:
    """Why the client does not (surely) use `key` at `version` (None: is not without it) yet; "" when it does."""
    type_url, name = key
    if session.only_type not in {None, type_url}:
        return ""
    subscription = session.subscription(type_url)
    if version is None:
        if subscription is None or subscription.is_gone(name):
            return ""
        if name in subscription.known:
            return f"{title(key)} is not withdrawn yet"
        return f"has not acknowledged the removal of {title(key)}"
    if subscription is None:
        return f"has not asked for {title(key)}" if session.is_envoy else ""
    if not subscription.wants(name) and not session.is_envoy:
        return ""
    known = subscription.known.get(name)
    if known == version and subscription.acked.get(name) == version and name not in subscription.alone:
        return ""
    if session.rejection(key, version):
        return f"has rejected {title(key)}"
    missing = session.missing(key)
    if missing:
        return f"{title(key)} is held back until {', '.join(f'cluster {each}' for each in sorted(missing))} is in use"
    if known == version:
        return f"has not acknowledged {title(key)}"
    if not subscription.wants(name):
        return f"has not asked for {title(key)}"
    return f"has not been sent {title(key)}"
