"""Typed reading of JSON objects that notes every mistake with its path, instead of stopping at the first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from controlplane.domain import Problem, ProblemCode, ProblemError
from controlplane.schema.text import JsonObject, canonical, kind

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")


class Findings:
    """The problems found so far in one body."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def add(self, path: str, message: str, code: ProblemCode = ProblemCode.INVALID_PARAMETER_VALUE) -> None:
        """Note one problem."""
        self._problems.append(Problem(path, code, message))

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note what a rule found."""
        self._problems.extend(problems)

    def __len__(self) -> int:
        return len(self._problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All of them, in the order they were found."""
        return tuple(self._problems)

    def raise_any(self) -> None:
        """Raise ProblemError with all problems, if there are any."""
        if self._problems:
            raise ProblemError(self._problems)


class Fields:
    """One JSON object at `path`.

    Each reader takes the spellings of one field, of which at most one may differ from null, and returns None when the
    field is missing, null, or wrong; when it is wrong, a finding says so.
    """

    def __init__(self, values: JsonObject, path: str, findings: Findings) -> None:
        self._values = values
        self._findings = findings
        self.path = path

    def at(self, key: str) -> str:
        """The path of a field of this object."""
        return f"{self.path}.{key}" if self.path else key

    def spelled(self, *keys: str) -> str:
        """The spelling of the field that was used, the first one when it is missing."""
        return next((key for key in keys if self._values.get(key) is not None), keys[0])

    def has(self, *keys: str) -> bool:
        """Whether the field is there and not null."""
        return any(self._values.get(key) is not None for key in keys)

    def any(self) -> bool:
        """Whether there is anything in the object."""
        return any(value is not None for value in self._values.values())

    def raw(self, *keys: str) -> Any:
        """The field's value as it stands."""
        given = [key for key in keys if self._values.get(key) is not None]
        if len(given) > 1 and any(self._values[key] != self._values[given[0]] for key in given):
            self._findings.add(self.at(given[1]), f"says something else than {given[0]}; send one of the two")
        return self._values[given[0]] if given else None

    def text(self, *keys: str) -> str | None:
        """A string."""
        value = self.raw(*keys)
        if value is None or isinstance(value, str):
            return value
        self._wrong(keys, "a string", value)
        return None

    def text_or_number(self, *keys: str) -> str | None:
        """A string; a whole number counts as its digits."""
        value = self.raw(*keys)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self.text(*keys)

    def integer(self, *keys: str) -> int | None:
        """A whole number, also one written as "90" or 90.0."""
        value = self.raw(*keys)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            return int(value)
        if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
            return int(value)
        self._wrong(keys, "a whole number", value)
        return None

    def flag(self, *keys: str) -> bool | None:
        """A boolean, also one written as "true" or "False", as some published examples have it."""
        value = self.raw(*keys)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in {"true", "false"}:
            return value.lower() == "true"
        self._wrong(keys, "true or false", value)
        return None

    def object(self, *keys: str) -> Fields | None:
        """An object."""
        value = self.raw(*keys)
        if value is None or isinstance(value, dict):
            return None if value is None else Fields(value, self.at(self.spelled(*keys)), self._findings)
        self._wrong(keys, "an object", value)
        return None

    def objects(self, *keys: str) -> list[Fields | None] | None:
        """An array of objects; None stands for an item that is not one."""
        value = self.raw(*keys)
        if value is None:
            return None
        if not isinstance(value, list):
            self._wrong(keys, "an array", value)
            return None
        path = self.at(self.spelled(*keys))
        items: list[Fields | None] = []
        for index, item in enumerate(value):
            if isinstance(item, dict):
                items.append(Fields(item, f"{path}[{index}]", self._findings))
            else:
                self._findings.add(f"{path}[{index}]", f"must be an object, not {kind(item)}")
                items.append(None)
        return items

    def number(self, *keys: str) -> float | None:
        """A number, also one written as "0.5"."""
        value = self.raw(*keys)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if value is None:
            return None
        if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
            return float(value)
        self._wrong(keys, "a number", value)
        return None

    def texts(self, *keys: str) -> tuple[str, ...]:
        """An array of strings."""
        value = self.raw(*keys)
        if value is None:
            return ()
        if not isinstance(value, list):
            self._wrong(keys, "an array", value)
            return ()
        path = self.at(self.spelled(*keys))
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self._findings.add(f"{path}[{index}]", f"must be a string, not {kind(item)}")
        return tuple(item for item in value if isinstance(item, str))

    def strings(self, *keys: str) -> tuple[tuple[str, str], ...]:
        """An object whose values are strings, as pairs in the order of their keys."""
        value = self.raw(*keys)
        if value is None:
            return ()
        if not isinstance(value, dict):
            self._wrong(keys, "an object", value)
            return ()
        pairs: list[tuple[str, str]] = []
        for key, item in sorted(value.items()):
            if isinstance(item, str):
                pairs.append((key, item))
            else:
                path = f"{self.at(self.spelled(*keys))}.{key}"
                self._findings.add(path, f"must be a string, not {kind(item)}; put it in quotes")
        return tuple(pairs)

    def kept(self, *keys: str) -> tuple[tuple[str, str], ...]:
        """Fields that are only kept to be given back: those that are there, as (field, canonical JSON text)."""
        return tuple((key, canonical(self._values[key])) for key in sorted(keys) if self._values.get(key) is not None)

    def required(self, *keys: str) -> None:
        """Note it when the field is missing."""
        if not self.has(*keys):
            self._findings.add(self.at(keys[0]), "is missing")

    def _wrong(self, keys: tuple[str, ...], wanted: str, value: Any) -> None:
        shown = f"{kind(value)} {canonical(value)}" if isinstance(value, str | int | float) else kind(value)
        self._findings.add(self.at(self.spelled(*keys)), f"must be {wanted}, not {_cut(shown)}")


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
