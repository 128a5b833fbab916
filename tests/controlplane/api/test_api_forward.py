"""A control plane that stands by: calls get the answer of the one that acts, or are told what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request
from werkzeug.test import Client

from controlplane.api.forward import HEALTH, PassedOn
from controlplane.api.server import serve
from controlplane.domain import Address

Leader = Callable[..., tuple[bool, Address | None]]
StandingBy = Callable[[Leader], Client]


def application(name: str, hangs: threading.Event | None = None) -> Flask:
    """Says who it is and what it was asked; to `hang` it says nothing until `hangs` is set."""
    app = Flask(name)

    @app.route("/<path:path>", methods=["GET", "POST"])
    def tell(path: str) -> tuple[Response, int]:
        if path == "hang" and hangs is not None:
            hangs.wait(60)
        told = {
            "by": name,
            "path": request.full_path,
            "body": request.get_data().decode(),
            "as": request.headers["X-A"],
        }
        response: Response = app.json.response(told)
        response.headers["X-Told"] = "yes"
        return response, 201

    return app


@pytest.fixture
def acting(tmp_path: Path) -> Iterator[Address]:
    """The one that acts."""
    address = Address(path=str(tmp_path / "api"))
    hangs = threading.Event()
    server = serve(application("acting", hangs), address, 4)
    yield address
    hangs.set()
    server.close()


@pytest.fixture
def standing_by() -> Iterator[Callable[[Leader], Client]]:
    """Makes clients of one that follows a leader."""
    made: list[PassedOn] = []

    def make(leader: Leader) -> Client:
        made.append(PassedOn(application("standing by"), leader))
        return Client(made[-1])

    yield make
    for each in made:
        each.close()


def told(client: Client, method: str, path: str, **more: Any) -> dict[str, Any]:
    """What is answered as JSON."""
    answer: dict[str, Any] = client.open(path, method=method, headers={"X-A": "admin"}, **more).get_json()
    return answer


def test_a_call_is_passed_on_whole_and_so_is_the_answer(acting: Address, standing_by: StandingBy) -> None:
    """Method, path, query, headers and body arrive; status, headers and body come back. Health is told by each itself."""
    client = standing_by(lambda *_: (False, acting))
    answer = client.post("/a/b?c=d", data=b"x", headers={"X-A": "admin"})
    assert (answer.status_code, answer.headers["x-told"]) == (201, "yes")
    assert answer.get_json() == {"by": "acting", "path": "/a/b?c=d", "body": "x", "as": "admin"}
    assert told(client, "GET", HEALTH)["by"] == "standing by"
    assert told(standing_by(lambda *_: (True, None)), "GET", "/a")["by"] == "standing by"


def test_one_that_cannot_be_reached_is_left_for_the_next(acting: Address, standing_by: StandingBy) -> None:
    """A connection that is refused has changed nothing, so whoever acts next gets the call, also a write."""
    nobody = Address(host="127.0.0.1", port=1)

    def leader(_patience: float, not_at: Address | None = None) -> tuple[bool, Address | None]:
        return False, acting if not_at == nobody else nobody

    assert told(standing_by(leader), "POST", "/a")["by"] == "acting"


def test_nobody_acts(standing_by: StandingBy) -> None:
    """A clear error that may be sent again."""
    answer = standing_by(lambda *_: (False, None)).get("/a")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.get_json()["error_code"] == "TEMPORARILY_UNAVAILABLE"


def test_one_that_hangs_is_not_waited_for_when_another_has_taken_over(acting: Address, standing_by: StandingBy) -> None:
    """What was read is read again here; of a write nobody knows, which is said."""
    for method, expected in (("GET", {"by": "standing by"}), ("POST", {"error_code": "TEMPORARILY_UNAVAILABLE"})):
        asked: list[float] = []

        def leader(patience: float, _not_at: Address | None = None, asked: list[float] = asked) -> tuple[bool, Any]:
            asked.append(patience)
            return (False, acting) if len(asked) == 1 else (True, None)

        assert told(standing_by(leader), method, "/hang").items() >= expected.items()
