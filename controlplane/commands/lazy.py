"""Subcommands that are known by name and summary, and imported when they run."""

from __future__ import annotations

import importlib

import click


class LazyCommand(click.Command):
    """Stands for a command in listings until `load` is called."""

    def __init__(self, name: str, target: str, summary: str) -> None:
        super().__init__(name, short_help=summary)
        self._target = target

    def load(self) -> click.Command:
        """The command itself; imports its module."""
        module, attribute = self._target.split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


class LazyGroup(click.Group):
    """A group whose help and completion import no subcommand."""

    def register(self, name: str, target: str, summary: str) -> None:
        """Add the command at `target` (`module:attribute`), shown in listings with `summary`."""
        self.add_command(LazyCommand(name, target, summary))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """The names in the order they were registered."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command to run, loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, LazyCommand) else command, rest
