"""`wye load`: load an endpoint through the public port, and say what that showed."""

from __future__ import annotations

import datetime as dt
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

import click

from controlplane.commands.client import Client, Json
from controlplane.commands.failures import Failure, Unreachable
from controlplane.commands.output import Layout, clean, write, write_json, write_table
from controlplane.commands.query import CONTENT_TYPES
from controlplane.commands.request import file_name
from controlplane.commands.session import Session, connected, endpoint_name, path_name

if TYPE_CHECKING:
    from controlplane.loadtest.report import Report

#: Clients of a test without a rate, and connections that one with a rate may make.
CLIENTS, MOST_CONNECTIONS = 16, 512
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def duration(value: str) -> float:
    """Seconds: `30s`, `500ms`, `2m`, `1h`, or a bare number of them."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|)", value.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0.1 <= seconds <= 24 * 3600:
        raise click.BadParameter(f"{value!r} is not a time from 100ms to 24h, such as 30s or 2m.")
    return seconds


@click.command()
@endpoint_name
@click.option(
    "-m", "--served-model", metavar="M", type=path_name, help="Ask this served model, whatever the split says."
)
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    type=path_name,
    help="Ask two served models in turn, and say whether one is slower.",
)
@click.option(
    "-r",
    "--rate",
    metavar="R",
    type=click.FloatRange(0.01, 1_000_000),
    help="Requests a second, sent when they are due whether earlier ones are answered or not: to measure latency.",
)
@click.option(
    "-c",
    "--connections",
    metavar="C",
    type=click.IntRange(1, 20_000),
    help=f"Clients that each wait for their answer: to measure throughput [{CLIENTS}]. With --rate: the most connections "
    f"[{MOST_CONNECTIONS}].",
)
@click.option(
    "-d", "--duration", "seconds", metavar="TIME", type=duration, default="30s", show_default=True, help="How long."
)
@click.option(
    "--timeout",
    metavar="TIME",
    type=duration,
    default="30s",
    show_default=True,
    help="How long a request may take before it counts as failed.",
)
@click.option(
    "-f",
    "--file",
    type=click.File("rb"),
    metavar="FILE",
    help="The request body: JSON (or CSV, or Parquet, by its name), `-` for standard input; else the model's input example.",
)
@click.option(
    "--html", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write a report with plots there."
)
@click.option("--json", "json_flag", is_flag=True, help="The same as -o json.")
@connected
def load(
    session: Session,
    name: str,
    *,
    served_model: str | None,
    compare: tuple[str, str] | None,
    rate: float | None,
    connections: int | None,
    seconds: float,
    timeout: float,
    file: IO[bytes] | None,
    html: Path | None,
    json_flag: bool,
) -> None:
    """Load an endpoint through the public port, and report throughput, latencies, failures and the observed split.

    wye load multi-model --rate 200 --duration 1m --html report.html

    wye load multi-model --compare current challenger --rate 100

    With --rate, a request's latency counts from the moment it was due, so that a server that stalls cannot hide it.
    Ctrl-C ends the test early and reports what was measured (exit code 130).
    """
    # Imported here, for `wye load --help` to answer at once.
    from controlplane.loadtest import driver, http, page, report, schedule  # noqa: PLC0415

    _check(served_model, compare, html)
    given = _body(file)
    mode: schedule.Mode = (
        schedule.Closed(connections or CLIENTS)
        if rate is None
        else schedule.Open(rate, connections or MOST_CONNECTIONS)
    )
    models = compare or ((served_model,) if served_model is not None else ())
    connection = session.connection()
    with session.client() as client:
        config = _active(client, name)
        body, content_type = given or (_example(client, name, models, config), "application/json")
        for model in models or _asked(config) or (None,):  # wakes what sleeps, and finds out at once what is wrong
            client.query(name, body, content_type, model, timeout)
        subject = report.Subject(
            endpoint=name,
            url=connection.url,
            served_models=models,
            mode=mode,
            seconds=seconds,
            began=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            config_version=config.get("config_version"),
            asked=_asked(config),
        )
        paths = [_path(name, model) for model in models] or [_path(name, None)]
        requests = [http.prepare(connection.url, path, body, content_type, connection.token) for path in paths]
        assignment = driver.Assignment(connection.url, requests, mode, seconds, timeout)
        try:
            with _progress(seconds) as watching:
                ran = driver.run(assignment, watching)
        except driver.CannotConnectError as error:
            raise Unreachable(f"cannot reach Wye at {connection.url}: {error}") from error
        found = report.report(
            subject,
            ran.tally,
            seconds=ran.seconds,
            busy=ran.busy,
            abandoned=ran.abandoned,
            interrupted=ran.interrupted,
            notes=_changed(client, name, config),
        )
    if html is not None:
        _write_page(html, page.page(found))
    if session.as_json or json_flag:
        write_json(found.as_json())
    else:
        _print(found)
    if ran.interrupted:
        raise click.exceptions.Exit(130)
    if not found.succeeded:
        raise Failure(f"none of {found.sent:,} requests was answered well")


def _check(served_model: str | None, compare: tuple[str, str] | None, html: Path | None) -> None:
    if compare is not None and served_model is not None:
        raise click.UsageError("--compare and --served-model exclude each other")
    if compare is not None and compare[0] == compare[1]:
        raise click.UsageError("--compare needs two different served models")
    if html is not None and not html.absolute().parent.is_dir():
        raise click.UsageError(f"there is no directory {html.absolute().parent} for {html}")


def _print(report: Report) -> None:
    from controlplane.loadtest import words  # noqa: PLC0415

    write("\n".join(map(clean, words.summary(report))))
    for table in words.tables(report):
        write("")
        write_table(Layout(table.headers), table.rows)
    for line in words.closing(report):
        write("\n" + clean(line))


def _body(file: IO[bytes] | None) -> tuple[bytes, str] | None:
    if file is None:
        return None
    content = file.read()
    if not content.strip():
        raise click.UsageError(f"{file_name(file)} is empty")
    return content, CONTENT_TYPES.get(Path(file_name(file)).suffix.lower(), "application/json")


def _active(client: Client, name: str) -> Json:
    config = client.get(name).get("config")
    if not isinstance(config, dict) or not config.get("served_entities"):
        raise Failure(f"{name} serves nothing yet that could be loaded; see `wye status {name}`")
    return config


def _asked(config: Json) -> dict[str, float]:
    """The split in per cent, of those that get any."""
    routes = (config.get("traffic_config") or {}).get("routes") or []
    shares = {str(r.get("served_model_name")): float(r.get("traffic_percentage") or 0) for r in routes}
    return {name: share for name, share in shares.items() if share}


def _example(client: Client, name: str, models: tuple[str, ...], config: Json) -> bytes:
    """The input example of the (first) model that is asked, as a request body."""
    wanted = models[0] if models else next(iter(_asked(config)), "")
    try:
        paths = client.openapi(name).get("paths") or {}
        content = paths[f"/served-models/{wanted}/invocations"]["post"]["requestBody"]["content"]["application/json"]
    except (LookupError, TypeError):
        raise Failure(f"{name} has no served model {wanted}; see `wye status {name}`", exit_code=3) from None
    if content.get("example") is None:
        raise Failure(
            f"{wanted or name} has no input example to ask with; give a request body with --file", exit_code=2
        )
    return json.dumps(content["example"], separators=(",", ":")).encode()


def _path(name: str, model: str | None) -> str:
    served = "" if model is None else f"/served-models/{quote(model, safe='')}"
    return f"/serving-endpoints/{quote(name, safe='')}{served}/invocations"


def _changed(client: Client, name: str, config: Json) -> list[str]:
    """What to mind if the endpoint was changed meanwhile."""
    try:
        now = _active(client, name)
    except Failure as failure:
        return [f"After the test {name} could not be read: {failure.format_message()}"]
    before, after = config.get("config_version"), now.get("config_version")
    if before == after:
        return []
    return [
        f"The config changed during the test, from version {before} to {after}; the asked split is that of {before}."
    ]


@contextmanager
def _progress(seconds: float) -> Iterator[Callable[..., None]]:
    """A line on a terminal's standard error that tells how it goes.

    Written as it is, not by rich: that takes milliseconds for a frame, in which nothing would be sent or timed.
    """
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from controlplane.loadtest.tally import Tally, latencies  # noqa: PLC0415

    last = [0, 0.0]

    def watching(tally: Tally, elapsed: float) -> None:
        done = tally.succeeded
        rate = (done - last[0]) / max(elapsed - last[1], 0.001)
        last[:] = [done, elapsed]
        p50, p99 = latencies(tally.slices[-3:]).quantiles((0.5, 0.99))
        share = min(1.0, elapsed / seconds)
        bar = ("━" * round(share * 24)).ljust(24, "─")
        failed = f"  {tally.failed:,} failed" if tally.failed else ""
        sys.stderr.write(
            f"\r\x1b[K{bar} {min(elapsed, seconds):.0f}/{seconds:.0f} s  {rate:,.0f}/s  p50 {p50 / 1e6:.2f}  p99 {p99 / 1e6:.2f} ms{failed}"
        )
        sys.stderr.flush()

    try:
        yield watching
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _write_page(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror or error}") from error
