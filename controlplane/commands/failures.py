"""How a command can fail, each with the exit code that `wye --help` gives it and one sentence for the user."""

from __future__ import annotations

import click

from controlplane.commands.output import clean

#: Statuses that say "not now" rather than "no": whoever polls may ask again.
PASSING = frozenset({429, 500, 502, 503, 504})


class Failure(click.ClickException):
    """Ends the command with `exit_code`, its message on standard error."""

    def __init__(self, message: str, *, exit_code: int = 1, passing: bool = False) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it a class variable, its own subclasses set it
        #: True when the same request may succeed a moment later.
        self.passing = passing

    def format_message(self) -> str:
        """The message without control characters, whatever server it came from."""
        return clean(self.message)


class Refused(Failure):
    """Wye answered with an error."""

    def __init__(self, status: int, error_code: str, message: str, *, exit_code: int = 1) -> None:
        super().__init__(f"{message} ({error_code})", exit_code=exit_code, passing=status in PASSING)
        self.error_code = error_code


class Missing(Refused):
    """Wye answered that something named in the request does not exist."""

    def __init__(self, error_code: str, message: str) -> None:
        super().__init__(404, error_code, message, exit_code=3)


class Unreachable(Failure):
    """No Wye is known, none answers, or what answers is something else."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=4, passing=True)


class UpdateFailed(Failure):
    """The update that was waited for ended without being applied."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=5)


class StillInProgress(Failure):
    """The update that was waited for had not ended in time."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=6)


class Interrupted(Failure):
    """The user stopped waiting."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=130)
