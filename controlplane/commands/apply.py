"""`wye apply`: make endpoints what a file says they are."""

from __future__ import annotations

from typing import IO

import click

from controlplane.commands.client import Client, Json
from controlplane.commands.failures import Failure
from controlplane.commands.output import Layout, write, write_json, write_table
from controlplane.commands.request import create_body, read_documents
from controlplane.commands.session import Session, connected
from controlplane.commands.wait import follow, waiting

CHANGES = Layout(("ENDPOINT", "WHAT", "BEFORE", "AFTER"))


@click.command()
@click.option(
    "-f",
    "--file",
    required=True,
    type=click.File("rb"),
    metavar="FILE",
    help="YAML or JSON, with a document for each endpoint. `-` is standard input.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would change, and every problem.")
@waiting
@connected
def apply(session: Session, *, file: IO[bytes], dry_run: bool, wait: bool, timeout: float) -> None:
    """Create or update endpoints, so that they are what a file says.

    What a document leaves out stays as it is; what is so already is left alone. Documents are applied in their order,
    and the first that fails ends it.
    """
    bodies = [create_body(document["name"], document) for document in read_documents(file)]
    with session.client() as client:
        if dry_run:
            _tell(session, client, bodies)
            return
        for body in bodies:
            follow(session, client, client.put(body["name"], body), wait=wait, timeout=timeout)


def _tell(session: Session, client: Client, bodies: list[Json]) -> None:
    """What applying would do; fails when a document would be refused."""
    told = [(body["name"], client.put(body["name"], body, dry_run=True)) for body in bodies]
    rows = [row for name, answer in told for row in _rows(name, answer)]
    if session.as_json:
        write_json([answer for _, answer in told])
    elif rows:
        write_table(CHANGES, rows)
    else:
        write("Nothing would change.")
    refused = [
        f"{name}: {problem['field'] or 'it'}: {problem['message']}"
        for name, answer in told
        for problem in answer.get("problems", [])
    ]
    if refused:
        raise Failure("\n".join(refused))


def _rows(name: str, answer: Json) -> list[tuple[str, str, str, str]]:
    rows = [(name, "endpoint", "", "created")] if answer.get("action") == "create" else []
    for entity in answer.get("served_entities", []):
        rows.append((name, f"replicas of {entity['name']}", "", str(entity["replicas"])))
        rows += [(name, f"{entity['name']}.{each['field']}", *_both(each)) for each in entity["fields"]]
    rows += [(name, f"traffic of {each['served_model_name']}", *_both(each)) for each in answer.get("routes", [])]
    fields = [each for each in answer.get("fields", []) if each["before"] or each["after"]]
    return rows + [(name, each["field"], *_both(each)) for each in fields]


def _both(change: Json) -> tuple[str, str]:
    before, after = ("" if change[key] is None else str(change[key]) for key in ("before", "after"))
    return before, after
