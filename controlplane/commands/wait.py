"""Following an update to its end: when it has ended, how, and what to tell the user."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any

import click
from rich.text import Text

from controlplane.clock import Clock, SystemClock
from controlplane.commands.client import Client, Json
from controlplane.commands.failures import Interrupted, Refused, StillInProgress, Unreachable, UpdateFailed
from controlplane.commands.output import indented, one_line, terminal, write_json, write_table
from controlplane.commands.session import Session
from controlplane.commands.view import STATUS, EndpointView, endpoint_view, status_rows

#: Seconds between two looks: the first, and what they grow to. A weight change is done within the first.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
#: Seconds to wait unless told otherwise: a minute more than Wye itself gives an update, so that its reason is seen.
PATIENCE = 1260.0
#: Seconds for which Wye may be away (restarted, say) before waiting gives up.
GRACE = 30.0


class Verdict(Enum):
    """How waiting ended."""

    APPLIED = auto()
    FAILED = auto()
    TIMED_OUT = auto()


def waiting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--wait` and `--timeout`."""
    command = click.option(
        "--timeout",
        type=click.FloatRange(min=0),
        default=PATIENCE,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait.",
    )(command)
    return click.option(
        "--wait/--no-wait",
        default=True,
        show_default=True,
        help="Return when the update is applied or has failed, or as soon as it is accepted.",
    )(command)


def verdict(endpoint: EndpointView, version: int) -> Verdict | None:
    """How the update to config `version` ended; None while it has not.

    Once that version is active it was applied, even if the next update is under way already.
    """
    if version and endpoint.active is not None and endpoint.active.version == version:
        return Verdict.APPLIED
    if endpoint.update in {"UPDATE_FAILED", "UPDATE_CANCELED"}:
        return Verdict.FAILED
    return Verdict.APPLIED if endpoint.update == "NOT_UPDATING" else None


def settle(
    answer: Json,
    fetch: Callable[[], Json],
    *,
    timeout: float,
    clock: Clock,
    sleep: Callable[[float], None],
    seen: Callable[[EndpointView], None],
) -> tuple[Json, Verdict]:
    """Poll until the update that `answer` began has ended or `timeout` seconds are over; the last answer and how it ended.

    Passing failures are sat out for GRACE seconds, then raised; others are raised at once.
    """
    accepted = endpoint_view(answer)
    config = accepted.pending or accepted.active
    version = config.version if config else 0
    pause, answered = FIRST_PAUSE, clock.monotonic()
    deadline = answered + timeout
    while True:
        endpoint = endpoint_view(answer)
        seen(endpoint)
        if (ended := verdict(endpoint, version)) is not None:
            return answer, ended
        left = deadline - clock.monotonic()
        if left <= 0:
            return answer, Verdict.TIMED_OUT
        sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE)
        try:
            answer = fetch()
            answered = clock.monotonic()
        except (Refused, Unreachable) as failure:
            if not failure.passing or clock.monotonic() - answered > GRACE:
                raise


def follow(session: Session, client: Client, answer: Json, *, wait: bool, timeout: float) -> None:
    """Show the endpoint that a write answered: at once, or when its update has ended.

    Raises UpdateFailed or StillInProgress when it was not applied; the JSON is printed all the same.
    """
    ended = Verdict.APPLIED
    accepted = endpoint_view(answer)
    name = accepted.name
    if wait:
        if not name or not accepted.update:
            raise Unreachable(
                "what was sent was answered without an endpoint's name and state.config_update; is that Wye?"
            )
        try:
            with progress() as seen:
                answer, ended = settle(
                    answer,
                    lambda: client.get(name),
                    timeout=timeout,
                    clock=SystemClock(),
                    sleep=time.sleep,
                    seen=seen,
                )
        except KeyboardInterrupt:
            raise Interrupted(f"stopped waiting; the update of {name} goes on, see `wye status {name}`") from None
    endpoint = endpoint_view(answer)
    if session.as_json:
        write_json(answer)
    if ended is Verdict.FAILED:
        raise UpdateFailed(failure_message(endpoint))
    if ended is Verdict.TIMED_OUT:
        raise StillInProgress(
            f"the update of {name} was still in progress after {timeout:g} s and goes on, see `wye status {name}`"
        )
    if not session.as_json:
        write_table(STATUS, status_rows([endpoint]))


def failure_message(endpoint: EndpointView) -> str:
    """Why the update failed, in the words of the entities at fault, and what serves now."""
    pending = endpoint.pending
    how = "was canceled" if endpoint.update == "UPDATE_CANCELED" else "failed"
    what = (
        f"the update of {endpoint.name} to config version {pending.version}"
        if pending
        else f"the update of {endpoint.name}"
    )
    now = (
        f"config version {endpoint.active.version} still serves"
        if endpoint.active
        else "it has no config that serves yet"
    )
    entities = pending.entities if pending else ()
    at_fault = [entity for entity in entities if entity.deployment == "FAILED"] or [
        entity for entity in entities if entity.message
    ]
    reasons = [
        f"  {entity.name} ({entity.registered}): {indented(entity.message, 4) or 'no reason given'}"
        for entity in at_fault
    ]
    return "\n".join([f"{what} {how}; {now}", *reasons])


@contextmanager
def progress() -> Iterator[Callable[[EndpointView], None]]:
    """A line on standard error that says how far the update is; nothing where that is no terminal."""
    console = terminal(sys.stderr)
    if not console.is_terminal:
        yield _unseen
        return
    with console.status(Text("waiting for the update")) as line:

        def seen(endpoint: EndpointView) -> None:
            line.update(Text(_progress_text(endpoint)))

        yield seen


def _unseen(_: Any) -> None:
    """Nobody looks."""


def _progress_text(endpoint: EndpointView) -> str:
    entities = endpoint.pending.entities if endpoint.pending else ()
    states = (f"{entity.name}: {entity.deployment} {one_line(entity.message)}".strip() for entity in entities)
    return one_line(f"updating {endpoint.name} · " + " · ".join(states))
