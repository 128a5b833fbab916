"""The report as a value, as text, as JSON and as a page."""

import json
import random
import re
from html.parser import HTMLParser

import pytest

from controlplane.loadtest import page, words
from controlplane.loadtest.report import Subject, report, split
from controlplane.loadtest.schedule import Closed, Open
from controlplane.loadtest.tally import Tally

TIMING = b"parse;dur=0.1, queue;dur=0.2, predict;dur=1.0, serialize;dur=0.1"


def a_report(
    *, models=(), answers=2000, names=("current", "challenger"), kind="503 TEMPORARILY_UNAVAILABLE", mode=None
):
    """The report of a test of ten seconds."""
    rng = random.Random(5)
    tally = Tally(len(models) or 1, 10)
    for number in range(answers):
        due = int(number * 10e9 / answers)
        target = number % len(models) if models else 0
        name = models[target] if models else rng.choices(names, (90, 10))[0]
        tally.sent += 1
        tally.answered(target, due, due + int(rng.lognormvariate(14.5, 0.5)), name, TIMING)
    tally.sent += 3
    for _ in range(3):
        tally.refused(10**9, kind, "no replica <b>is</b> there")
    asked = dict(zip(names, (90.0, 10.0), strict=True))
    mode = mode or Open(answers / 10 or 1, 64)
    subject = Subject("multi-model", "http://localhost:8080", models, mode, 10, "2026-11-22T10:00:00+00:00", 3, asked)
    return report(subject, tally, seconds=10, busy=0.2)


def text(found):
    """All that a terminal shows."""
    rows = [" ".join(row) for table in words.tables(found) for row in (table.headers, *table.rows)]
    return "\n".join((*words.summary(found), *rows, *words.closing(found)))


def test_the_text_tells_what_was_asked_and_what_came_of_it():
    """Throughput, latencies by model, the split with its interval, phases and failures."""
    said = text(a_report())
    assert "multi-model at http://localhost:8080, 200 requests/s over at most 64 connections, 10.0 s" in said
    assert "2,003 requests: 2,000 answered, 3 failed" in said
    assert re.search(r"^current 90 % \d\d\.?\d* % .* as asked$", said, re.MULTILINE)
    assert re.search(r"^predict 2,000 1\.00 ", said, re.MULTILINE)
    assert "503 TEMPORARILY_UNAVAILABLE 3 no replica <b>is</b> there" in said


def test_a_closed_test_says_what_its_latencies_are_worth():
    """And one at a rate need not."""
    assert "Use --rate to measure latency" in text(a_report(mode=Closed(8)))
    assert "--rate" not in text(a_report())


def test_the_json_says_the_same():
    """It is JSON, and has what the text derives."""
    document = json.loads(json.dumps(a_report().as_json()))
    assert document["subject"]["mode"] == {"kind": "rate", "rate": 200.0, "connections": 64}
    assert document["latency"]["count"] == 2000
    assert {each["served_model"]: each["as_asked"] for each in document["split"]} == {
        "current": True,
        "challenger": True,
    }
    assert len(document["moments"]) == 60
    both = a_report(models=("a", "b")).as_json()
    assert both["comparison"]["words"]
    assert both["split"] == ()


def test_models_that_the_config_does_not_name_are_not_as_asked():
    """Whoever answers is counted."""
    found = {each.served_model: each for each in split({"a": 100.0}, {"a": 90, "old": 10})}
    assert not found["a"].as_asked
    assert (found["old"].asked, found["old"].as_asked) == (None, False)
    assert split({"a": 100.0}, {"": 5}) == ()


class Checker(HTMLParser):
    """Collects tags, and complains of those that are not closed."""

    def __init__(self):
        super().__init__()
        self.seen, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag != "p" or self.open[-1] == "p":
            assert self.open.pop() == tag


@pytest.mark.parametrize(
    "found",
    [
        a_report(),
        a_report(models=("a", "b")),
        a_report(answers=0),
        a_report(answers=1),
        a_report(mode=Closed(1), models=("a",)),
    ],
    ids=["split", "compared", "none answered", "one answered", "one model"],
)
def test_the_page_is_well_formed_and_needs_nothing_else(found):
    """No script, no reference to anything outside."""
    checker = Checker()
    checker.feed(page.page(found))
    assert checker.open == []
    assert "script" not in {tag for tag, _ in checker.seen}
    assert not any({"src", "href", "onload"} & attributes.keys() for _, attributes in checker.seen)
    assert "://" not in page.page(found).replace("http://localhost:8080", "")


def test_names_and_messages_are_only_text():
    """Whatever a served model is called or a server says."""
    evil = '<img src=x onerror="alert(1)">'
    made = page.page(a_report(names=(evil, "b & c"), kind=f"500 {evil}"))
    assert "<img" not in made
    assert "&lt;img src=x onerror=" in made
    assert "b &amp; c" in made
    assert "no replica &lt;b&gt;is&lt;/b&gt; there" in made
