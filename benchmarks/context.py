"""What every benchmark is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Context:
    #: An empty directory with a short path, gone afterwards.
    folder: Path
    quick: bool
    #: Tell the user what is going on.
    say: Callable[[str], None]
