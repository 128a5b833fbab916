"""The driver, against a server that stalls, refuses and hangs up."""

import os
import signal
import socket
import socketserver
import threading

import pytest

from controlplane.loadtest import driver, http
from controlplane.loadtest.schedule import Closed, Open
from tests.controlplane.loadtest.stalling import StallingServer, answer


def drive(server, mode, seconds, *, targets=1, timeout=30.0, watching=lambda *_: None):
    """Load the server."""
    request = http.prepare(server.url, "/x/invocations", b"{}", "application/json", "token")
    return driver.run(driver.Assignment(server.url, [request] * targets, mode, seconds, timeout), watching, 0.05)


class Interrupt:
    """Watches, and presses Ctrl-C once, when what is counted satisfies `enough`."""

    def __init__(self, enough):
        self.enough = enough
        self.pressed = False

    def __call__(self, tally, _):
        if self.enough(tally) and not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)


def stalls_at(number):
    """Answers of a server that stalls at this request."""
    return lambda asked: "stall" if asked == number else answer()


def test_a_stall_of_a_second_is_reported_at_a_fixed_rate():
    """Coordinated omission: those that were due while the server said nothing have waited, and their latencies say so.

    At 200 a second a stall of 1 s meets some 200 of 400 requests, which wait half a second on average.
    """
    with StallingServer(stalls_at(100)) as server:
        ran = drive(server, Open(200, 512), 2)
    whole = ran.tally.latencies[0]
    assert whole.count == 400
    assert whole.highest >= 0.95e9
    slow = [value for value, _ in whole.steps() if value > 0.1e9]
    assert whole.quantile(0.75) > 0.3e9  # a quarter of all waited longer than this
    assert len(slow) > 50


def test_clients_that_wait_for_their_answers_hardly_see_the_same_stall():
    """Which is why latency is measured at a rate: four clients have asked four times in that second."""
    with StallingServer(stalls_at(40)) as server:
        ran = drive(server, Closed(4), 60, watching=Interrupt(lambda tally: tally.succeeded > 100))
    whole = ran.tally.latencies[0]
    assert whole.highest >= 0.95e9
    quick = max(not_above for value, not_above in whole.steps() if value < 0.9e9)
    assert whole.count - quick <= 8  # four, and as many again should the machine stall as well


def test_what_waits_for_a_connection_has_waited():
    """The most connections there may be do not hide the stall either: latency counts from when a request was due."""
    with StallingServer(stalls_at(50), stall=0.5) as server:
        ran = drive(server, Open(200, 1), 1)
    assert ran.tally.latencies[0].quantile(0.75) > 0.15e9


def test_a_rate_is_kept_and_every_request_is_accounted_for():
    """The phases come from the answers, and the model's name too."""
    with StallingServer() as server:
        ran = drive(server, Open(500, 64), 1)
    tally = ran.tally
    assert (tally.sent, tally.succeeded, tally.failed, ran.abandoned) == (500, 500, 0, 0)
    assert server.requests == 500
    assert tally.chosen == {"m": 500}
    assert tally.phases["predict"].quantile(0.5) == pytest.approx(0.5e6, rel=1e-3)
    assert tally.phases["rest"].count == 500
    assert ran.seconds == 1


def test_failures_are_told_by_kind():
    """An error's code and first words, and connections that end, each counted; what follows goes on."""
    refusal = answer(b"429 Too Many Requests", b'{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"}')
    odd = answer(b"503 Service Unavailable", b"<html>")
    kinds = {0: refusal, 1: None, 2: odd}
    with StallingServer(lambda number: kinds.get(number % 10, answer())) as server:
        ran = drive(server, Open(400, 8), 0.5)
    failures = {kind: (each.count, each.message) for kind, each in ran.tally.failures.items()}
    assert failures["429 REQUEST_LIMIT_EXCEEDED"] == (20, "slow down")
    assert failures["503"] == (20, "<html>")
    assert failures["connection lost"][0] == 20
    assert ran.tally.sent == ran.tally.succeeded + ran.tally.failed == 200


def test_answers_that_close_the_connection_are_answers():
    """A server without keep-alive is tested as well: each request on a connection of its own."""
    with StallingServer(lambda _: answer(more=b"connection: close\r\n")) as server:
        ran = drive(server, Closed(3), 60, watching=Interrupt(lambda tally: tally.succeeded > 10))
    assert ran.tally.succeeded > 10
    assert ran.tally.failed == 0


def test_what_takes_too_long_is_a_timeout_whether_it_was_sent_or_not():
    """The test ends, and nothing is forgotten."""
    with StallingServer(stalls_at(3), stall=60.0) as server:
        ran = drive(server, Open(50, 2), 0.5, timeout=0.5)
    assert ran.tally.sent == 25
    assert ran.tally.failures["timeout"].count >= 20
    assert ran.abandoned == 0


def test_two_targets_share_the_load_equally():
    """As a comparison needs it."""
    with StallingServer() as server:
        ran = drive(server, Open(400, 16), 0.5, targets=2)
    assert [each.count for each in ran.tally.latencies] == [100, 100]


def test_ctrl_c_ends_the_test_with_what_was_measured():
    """No KeyboardInterrupt, no waiting for what is under way."""
    with StallingServer(stalls_at(50), stall=20.0) as server:
        ran = drive(server, Open(200, 16), 60, watching=Interrupt(lambda tally: tally.succeeded >= 40))
    assert ran.interrupted
    assert ran.tally.succeeded >= 40
    assert ran.seconds < 30


def test_nobody_to_be_tested_is_said_at_once():
    """With the system's reason."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(driver.CannotConnectError, match="refused"):
            driver.run(driver.Assignment(url, [b""], Closed(2), 1, 1), lambda *_: None)


class ShortLived(socketserver.StreamRequestHandler):
    """Answers one request, and hangs up."""

    def handle(self):
        while self.rfile.readline().strip():
            pass
        self.rfile.read(2)
        self.wfile.write(answer(more=b"connection: close\r\n"))


def test_a_server_that_goes_away_meanwhile_is_counted_not_hammered():
    """Connections that cannot be made are failures of the requests that were due, at a bearable pace."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), ShortLived) as server:
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        interrupt = Interrupt(lambda tally: tally.failed > 20)

        def watching(tally, elapsed):
            if tally.succeeded > 10:
                server.shutdown()
                server.socket.close()
                interrupt(tally, elapsed)

        ran = drive(server, Closed(4), 60, watching=watching)
        server.shutdown()
        thread.join()
    assert ran.tally.succeeded > 10
    assert 20 < ran.tally.failed < 20 + 200 * ran.seconds
    assert "cannot connect" in ran.tally.failures
    assert ran.tally.sent == ran.tally.succeeded + ran.tally.failed
