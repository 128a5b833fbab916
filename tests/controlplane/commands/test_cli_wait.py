"""Waiting for updates: the decision and the loop on a fake clock, then the commands over real HTTP."""

import json
from dataclasses import replace

import pytest

from controlplane.clock import FakeClock
from controlplane.commands.failures import Missing, Refused, Unreachable
from controlplane.commands.view import ConfigView, EndpointView
from controlplane.commands.wait import GRACE, Verdict, settle, verdict

API = "/api/2.0/serving-endpoints"


def endpoint(update="IN_PROGRESS", active=1, pending=2):
    """An endpoint in that state with these config versions."""

    def config(version):
        return None if version is None else ConfigView(version, ())

    return EndpointView("e", "READY", update, config(active), config(pending))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (endpoint(), None),
        (endpoint(update=""), None),
        (endpoint(update="SOMETHING_NEW"), None),
        (endpoint(active=None), None),
        (endpoint("NOT_UPDATING", active=2, pending=None), Verdict.APPLIED),
        (endpoint("IN_PROGRESS", active=2, pending=3), Verdict.APPLIED),
        (endpoint("UPDATE_FAILED", active=2, pending=3), Verdict.APPLIED),
        (endpoint("UPDATE_FAILED"), Verdict.FAILED),
        (endpoint("UPDATE_CANCELED"), Verdict.FAILED),
        (endpoint("NOT_UPDATING", active=None, pending=None), Verdict.APPLIED),
    ],
)
def test_verdict(seen, expected):
    """An update has ended when its version is active, or when the state says that none is under way."""
    assert verdict(seen, 2) is expected


def test_version_zero_is_no_version():
    """A server that tells no config version is judged by the state alone."""
    seen = endpoint()
    assert verdict(replace(seen, active=ConfigView(0, ())), 0) is None


def body(update, version=1, pending=None):
    """The same as the API answers it."""
    made = {"name": "e", "state": {"config_update": update}, "config": {"config_version": version}}
    return {**made, "pending_config": {"config_version": pending}} if pending else made


class Script:
    """Answers for `settle`, in turn; the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.clock = FakeClock()
        self.pauses = []
        self.seen = []

    def fetch(self):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.clock.advance(seconds)

    def settle(self, first, timeout=60.0):
        return settle(
            first,
            self.fetch,
            timeout=timeout,
            clock=self.clock,
            sleep=self.sleep,
            seen=lambda view: self.seen.append(view.update),
        )


def test_an_answer_that_is_done_is_not_polled():
    """When the server carried the update out before it answered, nothing more is asked."""
    script = Script()
    assert script.settle(body("NOT_UPDATING"))[1] is Verdict.APPLIED
    assert script.pauses == []


def test_polling_begins_quickly_and_slows_down():
    """The first look is after 20 ms; pauses grow to one second and not beyond."""
    script = Script(*[body("IN_PROGRESS", 1, 2)] * 20, body("NOT_UPDATING", 2))
    answer, ended = script.settle(body("IN_PROGRESS", 1, 2))
    assert (answer, ended) == (body("NOT_UPDATING", 2), Verdict.APPLIED)
    assert script.pauses[0] == 0.02
    assert script.pauses == sorted(script.pauses)
    assert script.pauses[-1] == 1.0
    assert script.seen == ["IN_PROGRESS"] * 21 + ["NOT_UPDATING"]


def test_the_timeout_is_kept_to_the_moment():
    """Waiting ends when the time is over, not a pause later, with the last answer."""
    script = Script(body("IN_PROGRESS", 1, 2))
    start = script.clock.monotonic()
    assert script.settle(body("IN_PROGRESS", 1, 2), timeout=5.0) == (body("IN_PROGRESS", 1, 2), Verdict.TIMED_OUT)
    assert script.clock.monotonic() - start == pytest.approx(5.0)


@pytest.mark.parametrize("trouble", [Unreachable("gone"), Refused(503, "TEMPORARILY_UNAVAILABLE", "restarting")])
def test_a_short_absence_is_sat_out(trouble):
    """A control plane that restarts during the update does not end the waiting."""
    script = Script(trouble, trouble, trouble, body("NOT_UPDATING", 2))
    assert script.settle(body("IN_PROGRESS", 1, 2))[1] is Verdict.APPLIED


def test_a_long_absence_is_not():
    """After GRACE seconds without an answer the trouble itself is reported."""
    script = Script(Unreachable("gone"))
    start = script.clock.monotonic()
    with pytest.raises(Unreachable, match="gone"):
        script.settle(body("IN_PROGRESS", 1, 2), timeout=1000.0)
    assert GRACE < script.clock.monotonic() - start <= GRACE + 1.0


@pytest.mark.parametrize(
    "trouble", [Missing("RESOURCE_DOES_NOT_EXIST", "deleted"), Refused(403, "PERMISSION_DENIED", "no")]
)
def test_an_answer_that_will_not_change_ends_the_waiting(trouble):
    """An endpoint deleted meanwhile is reported at once."""
    script = Script(trouble)
    with pytest.raises(type(trouble)):
        script.settle(body("IN_PROGRESS", 1, 2))
    assert len(script.pauses) == 1


COMMANDS = [
    ("endpoints", "create", "new", "--entity", "current=model-A:1", "--entity", "other=model-B:7"),
    ("endpoints", "update", "multi-model", "--entity", "current=model-A:1", "--entity", "other=model-B:7"),
    ("split", "multi-model", "current=50", "challenger=50"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_return_when_the_update_is_applied(run, server, command):
    """By default a write returns only when the endpoint says that it is applied."""
    server.polls = 3
    result = run(*command, "-o", "json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["state"]["config_update"] == "NOT_UPDATING"
    assert result.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_no_wait_returns_what_was_accepted(run, server, command):
    """--no-wait prints the endpoint as the write answered it and asks no more."""
    server.polls = None
    result = run(*command, "--no-wait", "-o", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["state"]["config_update"] == "IN_PROGRESS"
    assert server.requests[-1].method in {"POST", "PUT"}


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_a_failed_update_ends_with_5(run, server, command):
    """The exception's own words are on standard error, with what still serves; entities given up for it are not blamed."""
    server.failure = "ModuleNotFoundError: No module named 'xgboost'\n  in line 3"
    result = run(*command)
    assert (result.exit_code, result.stdout) == (5, "")
    first, *reasons = result.stderr.splitlines()
    assert first == "Error: the update of multi-model to config version 2 failed; config version 1 still serves"
    assert len(reasons) == 2
    assert (
        reasons[0].endswith("(model-B 7): ModuleNotFoundError: No module named 'xgboost'") or "model-B 1" in reasons[0]
    )
    assert "Given up" not in result.stderr


def test_a_failed_first_update_ends_with_5(run, server):
    """An endpoint whose first config failed is said to serve nothing; the JSON is printed all the same."""
    server.failure = "boom [red]"
    result = run("endpoints", "create", "new", "--entity", "a=m:1", "-o", "json")
    assert result.exit_code == 5
    assert json.loads(result.stdout)["state"]["config_update"] == "UPDATE_FAILED"
    assert "it has no config that serves yet" in result.stderr
    assert "a (m 1): boom [red]" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_running_out_of_time_ends_with_6(run, server, command):
    """A timeout is told apart from a failure, because the update goes on."""
    server.polls = None
    result = run(*command, "--timeout", "0", "-o", "json")
    assert result.exit_code == 6
    assert json.loads(result.stdout)["state"]["config_update"] == "IN_PROGRESS"
    assert "still in progress after 0 s and goes on" in result.stderr


def test_an_update_while_another_is_under_way_ends_with_1(run, server):
    """The server's conflict is a refusal."""
    server.polls = None
    assert run(*COMMANDS[1], "--no-wait").exit_code == 0
    result = run(*COMMANDS[1])
    assert result.exit_code == 1
    assert "RESOURCE_CONFLICT" in result.stderr


def test_waiting_survives_a_malformed_answer(run, server, answers):
    """A proxy's error page between two polls does not end the waiting."""
    server.script(
        "GET",
        f"{API}/multi-model",
        answers.Answer(502, b"<html>Bad gateway</html>", "text/html"),
        answers.Answer(hang_up=True),
    )
    result = run(*COMMANDS[1])
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("odd", [b"{}", b'{"name": "multi-model"}', b'{"name": "multi-model", "state": "IN_PROGRESS"}'])
def test_an_answer_without_a_state_is_not_waited_on(run, server, answers, odd):
    """What does not say how far it is, and would be waited on for ever, is reported at once."""
    server.script("PUT", f"{API}/multi-model/config", answers.Answer(body=odd))
    result = run(*COMMANDS[1])
    assert (result.exit_code, result.stdout) == (4, "")
    assert "state.config_update" in result.stderr
