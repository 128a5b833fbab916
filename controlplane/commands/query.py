"""`wye query`: one request to a served model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO

import click

from controlplane.commands.client import Json
from controlplane.commands.output import clean, write, write_json
from controlplane.commands.request import file_name
from controlplane.commands.session import Session, connected, endpoint_name, path_name

#: Content types by file name; everything else is JSON.
CONTENT_TYPES = {".csv": "text/csv", ".parquet": "application/vnd.apache.parquet"}


@click.command()
@endpoint_name
@click.argument("file", type=click.File("rb"), required=False)
@click.option("-m", "--model", metavar="SERVED", type=path_name, help="Ask this served model, whatever the split says.")
@click.option("-d", "--data", metavar="JSON", help="The request body itself, instead of FILE.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the model may take.",
)
@connected
def query(
    session: Session, name: str, *, file: IO[bytes] | None, model: str | None, data: str | None, timeout: float
) -> None:
    """Send a request to an endpoint and print its predictions.

    The first line tells which served model answered, each further one is a prediction.

    FILE holds the request body as JSON (or CSV, or Parquet, by its name); `-` is standard input.

    wye query multi-model --data '{"dataframe_records": [{"x": 1.0}]}'
    """
    content, content_type = _body(file, data)
    with session.client() as client:
        prediction = client.query(name, content, content_type, model, timeout)
    if session.as_json:
        write_json(prediction.body)
        return
    if prediction.served_model:
        write(f"answered by {clean(prediction.served_model)}")
    write("\n".join(clean(line) for line in _lines(prediction.body)))


def _body(file: IO[bytes] | None, data: str | None) -> tuple[bytes, str]:
    if (file is None) == (data is None):
        raise click.UsageError("give the request body: a FILE, `-` for standard input, or --data JSON (one of them)")
    if data is not None or file is None:
        content, content_type = (data or "").encode("utf-8", "surrogateescape"), "application/json"
    else:
        content, content_type = file.read(), CONTENT_TYPES.get(Path(file_name(file)).suffix.lower(), "application/json")
    if not content.strip():
        raise click.UsageError("the request body is empty")
    return content, content_type


def _lines(body: Json) -> list[str]:
    predictions = body.get("predictions", body)
    if isinstance(predictions, list):
        return [json.dumps(each, ensure_ascii=False) for each in predictions]
    return [json.dumps(predictions, ensure_ascii=False, indent=2)]
