"""What commands write: tables for people, the API's JSON for scripts.

Nothing from a server is taken for markup, and none of its control characters reach the terminal.
"""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Colours for the API's words; anything else is printed plain.
STYLES = {
    "READY": "green",
    "NOT_READY": "yellow",
    "IN_PROGRESS": "yellow",
    "CREATING": "yellow",
    "RECOVERING": "yellow",
    "UPDATE_FAILED": "red",
    "UPDATE_CANCELED": "red",
    "FAILED": "red",
    "ABORTED": "red",
}
#: Format characters that scripts and emoji need inside words; the others can reorder or hide text.
JOINERS = "\u200c\u200d"

Row = Sequence[str]


def clean(text: str) -> str:
    """The text with control, surrogate and direction characters made visible; newlines and tabs stay."""
    return "".join(char if _harmless(char) else char.encode("unicode_escape").decode("ascii") for char in text)


def _harmless(char: str) -> bool:
    return char in "\n\t" or char in JOINERS or unicodedata.category(char) not in {"Cc", "Cf", "Cs"}


def one_line(text: str) -> str:
    """The text as a table cell shows it: clean, with each run of white space as one space."""
    return clean(" ".join(text.split()))


def write(text: str) -> None:
    """Print text on standard output, escaping what its encoding lacks."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def write_json(body: Any, *, indent: int | None = 2) -> None:
    """Print the value as JSON on standard output; valid JSON in whatever encoding that has."""
    text = json.dumps(body, indent=indent, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(body, indent=indent)
    click.echo(text)


def write_table(headers: Row, rows: Iterable[Row], *, group: int = 0) -> None:
    """Print a table on standard output.

    On a terminal it is coloured, wrapped to fit, and a row leaves out those of its first `group` cells that repeat the
    row above; elsewhere every row is one whole line, for grep and awk.
    """
    console = terminal(sys.stdout)
    if console.is_terminal:
        console.print(table(headers, rows, group=group))
    else:
        write(plain_table(headers, rows))


def terminal(file: Any) -> Console:
    """A console on that file which interprets nothing in what it prints."""
    return Console(file=file, markup=False, highlight=False, emoji=False)


def table(headers: Row, rows: Iterable[Row], *, group: int = 0) -> Table:
    """The table as a terminal shows it."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for header in headers:
        made.add_column(Text(header), overflow="fold", no_wrap=header != headers[-1])
    above: Row = ()
    for row in rows:
        repeats = group if tuple(row[:group]) == tuple(above[:group]) else 0
        cells = ["" if index < repeats else one_line(cell) for index, cell in enumerate(row)]
        made.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in cells))
        above = row
    return made


def plain_table(headers: Row, rows: Iterable[Row]) -> str:
    """The table as lines of aligned columns, without colour, wrapping or trailing spaces."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for _ in headers:
        made.add_column(no_wrap=True)
    for row in (headers, *rows):
        made.add_row(*(Text(one_line(cell)) for cell in row))
    text = io.StringIO()
    Console(file=text, width=10**6, force_terminal=False, color_system=None).print(made)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
