"""How requests of the state-of-the-world variant change a subscription (xds.md 1.3). PURE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controlplane.discovery.messages import SotwRequest
from controlplane.discovery.refusal import blamed
from controlplane.discovery.subscription import Reaction, Resources, Sent, Settled, Subscription
from controlplane.translate.resource import Resource, TypeUrl

#: A response of these types is complete: what it leaves out is deleted by the client.
FULL_STATE = frozenset({TypeUrl.CLUSTER, TypeUrl.LISTENER, TypeUrl.SCOPE})


class SotwSubscription(Subscription):
    """The state-of-the-world variant: each request names the whole subscription, and only the last nonce counts."""

    tells_absence = False

    def __init__(self, type_url: str) -> None:
        super().__init__(type_url)
        self.full_state = self.tells_removal = type_url in FULL_STATE
        self._ever_named = False
        self._resumed = False
        self._last_nonce = ""
        #: What the client is told of, and what it has accepted: a full-state response repeats it all.
        self._shown: dict[str, Resource] = {}
        self._accepted_content: dict[str, Resource] = {}

    def on_request(self, request: SotwRequest, have: Resources) -> Reaction:
        """Take one request."""
        settled = self._settle_up_to(request.nonce, request.error) if request.nonce else ()
        if self._last_nonce and request.nonce != self._last_nonce:
            return Reaction(settled)  # stale: a request that answers our latest response will follow
        first, self.started = not self.started, True
        names = set(request.names)
        self._ever_named = self._ever_named or bool(names)
        was_wild, self.wild = self.wild, "*" in names or not self._ever_named
        names -= {"*", ""}
        new, lost, self.names = names - self.names, self.names - names, names
        forgotten: frozenset[str] = frozenset()
        if self.wild and not was_wild:
            self.force(have.keys())
        elif was_wild and not self.wild:
            forgotten = self._forget((self.known.keys() | self.dirty) - names)
        elif lost and not self.wild:
            forgotten = self._forget(lost)
        self.force(new)
        if first:
            # Envoy's start waits for these even if there are none.
            self.owes_reply = self.full_state or self.wild
            self.resuming = self._resumed = self.full_state and bool(request.version)
        return Reaction(settled, forgotten)

    def record(
        self, puts: Sequence[Resource], removed: Sequence[str], nonce: str, seq: int, generation: int
    ) -> tuple[Sequence[Resource], Sequence[str]]:
        """As for any subscription; a full-state response repeats what has not changed."""
        super().record(puts, removed, nonce, seq, generation)
        self._last_nonce = nonce
        if not self.full_state:
            return puts, ()
        for resource in puts:
            self._shown[resource.name] = resource
        for name in removed:
            self._shown.pop(name, None)
            self._accepted_content.pop(name, None)
        sent = self.in_flight[nonce]
        # All that is not settled yet rides on this response, whatever becomes of the ones before.
        unsettled = {name for each in self.in_flight.values() for name in each.entries}
        sent.content = {
            name: shown
            for name, shown in self._shown.items()
            if name in unsettled or self.acked.get(name) != shown.version
        }
        sent.entries = {name: resource.version for name, resource in sent.content.items()} | dict.fromkeys(removed)
        return [self._shown[name] for name in sorted(self._shown)], ()

    def _settle_up_to(self, nonce: str, error: str | None) -> tuple[Settled, ...]:
        if nonce not in self.in_flight:
            return ()
        # Clients may skip responses that were overtaken; an ACK of a later one covers them.
        earlier = [other for other, sent in self.in_flight.items() if sent.seq < self.in_flight[nonce].seq]
        settled = [self.settle(other, None) for other in earlier] if error is None else []
        settled.append(self.settle(nonce, error))
        return tuple(each for each in settled if each is not None)

    def _accepted(self, sent: Sent) -> Settled:
        self._accepted_content.update(sent.content)
        return super()._accepted(sent)

    def _refused(self, sent: Sent, error: str) -> Settled:
        if not self.full_state:
            return super()._refused(sent, error)
        self._end_departures(sent)
        at_fault = blamed(error, sent.entries) or frozenset(sent.entries)
        rejected = {name: version for name, version in sent.entries.items() if name in at_fault and version is not None}
        for name, version in rejected.items():
            self._reject(name, version)
        unclear = frozenset(sent.entries) - at_fault
        if not any(self._shown.get(name) == sent.content[name] for name in rejected):
            # A response without those at fault tells how the others are; each round has fewer of them. When all of
            # them are at fault there is nothing to learn, and nothing is said until the content changes.
            self.owes_reply = self.owes_reply or bool(unclear)
            return Settled(sent.seq, rejected=rejected, unclear=unclear, message=error)
        # One of those at fault cannot be left out, so no response without it is possible. Envoy names all that it does
        # not take and uses the rest; to insist on more would hold back the rest for as long as the fault lasts.
        taken = {name: sent.entries[name] for name in sorted(unclear)}
        for name in taken:
            if name in sent.content and name not in self.departing:
                self._accepted_content[name] = sent.content[name]
                self.acked[name] = sent.content[name].version
        return Settled(sent.seq, acked=taken, rejected=rejected, message=error)

    def _reject(self, name: str, version: str) -> None:
        super()._reject(name, version)
        shown = self._shown.get(name)
        if shown is None or shown.version != version:
            return
        if name in self._accepted_content:
            self._shown[name] = self._accepted_content[name]
        elif self._resumed:
            # The client may have an older one from an earlier stream, which it would delete if we left the name out.
            self.known[name] = version
        else:
            del self._shown[name]

    def _forget(self, names: Iterable[str]) -> frozenset[str]:
        forgotten = super()._forget(names)
        for name in forgotten:
            self._shown.pop(name, None)
            self._accepted_content.pop(name, None)
            for sent in self.in_flight.values():
                sent.content.pop(name, None)
        return forgotten
