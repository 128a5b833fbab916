"""What commands write: tables for people, the API's JSON for scripts.

Nothing from a server is taken for markup, and none of its control characters reach the terminal.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console, Group
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


@dataclass(frozen=True, slots=True)
class Layout:
    """A table's columns, and how a terminal shows them."""

    headers: Row
    #: Cells at the beginning of a row that a terminal leaves out where they repeat the row above.
    group: int = 0
    #: When given, the last column is text of any length: a terminal shows it below the table, after these cells.
    labels: tuple[int, ...] = ()


def write_table(layout: Layout, rows: Iterable[Row]) -> None:
    """Print a table on standard output: coloured and fitted on a terminal, elsewhere a line a row, for grep and awk."""
    console = terminal(sys.stdout)
    if console.is_terminal:
        console.print(fitted_table(layout, rows))
    else:
        write(plain_table(layout, rows))


def terminal(file: Any) -> Console:
    """A console on that file which interprets nothing in what it prints."""
    return Console(file=file, markup=False, highlight=False, emoji=False)


def fitted_table(layout: Layout, rows: Iterable[Row]) -> Group:
    """The table as a terminal shows it; what does not fit is wrapped, nothing is cut."""
    shown = len(layout.headers) - bool(layout.labels)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for header in layout.headers[:shown]:
        table.add_column(Text(clean(header)), overflow="fold")
    notes: list[Text] = []
    above: Row = ()
    for row in rows:
        repeats = layout.group if tuple(row[: layout.group]) == tuple(above[: layout.group]) else 0
        cells = ["" if index < repeats else one_line(cell) for index, cell in enumerate(row[:shown])]
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in cells))
        if layout.labels and row[-1]:
            label = "/".join(one_line(row[index]) for index in layout.labels if row[index])
            notes.append(Text.assemble("\n", (label, "bold"), ": ", clean(indented(row[-1]))))
        above = row
    return Group(table, *notes)


def plain_table(layout: Layout, rows: Iterable[Row]) -> str:
    """The table as lines of aligned columns, without colour, wrapping or trailing spaces."""
    lines = [[one_line(cell) for cell in row] for row in (layout.headers, *rows)]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(layout.headers))]
    return "\n".join("  ".join(map(_padded, line, widths)).rstrip() for line in lines)


def indented(text: str, by: int = 2) -> str:
    """The text with every line after the first moved in, so that it is seen to belong to it."""
    return ("\n" + " " * by).join(text.strip().splitlines())


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))
