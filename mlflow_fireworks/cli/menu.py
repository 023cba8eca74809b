"""Groups of commands that are listed here and made elsewhere, so that `--help` costs no import of MLflow."""

from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any

import click

from mlflow_fireworks.installing import install

_OF_THE_HOOKS = ("huey", "prometheus_client", "starlette", "uvicorn")
"""Where mlflow-skinny takes the place of MLflow, these may be missing."""


class Menu(click.Group):
    """A group whose commands are imported when one of them is asked for.

    Args:
        name: Of the group.
        load: Gives the real group.
        lines: What each of its commands does, in a line.
        menus: Groups below this one that are menus themselves.
        options: As for `click.Group`.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], click.Group],
        lines: Mapping[str, str],
        menus: Mapping[str, "Menu"] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, **options)
        self.load = load
        self.lines = lines
        self.menus = menus or {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All names, in the order of the alphabet."""
        return sorted({*self.lines, *self.menus})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, imported if it must be; also one that is not listed."""
        return self.menus.get(cmd_name) or self.load().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`."""
        lines = {**self.lines, **{name: menu.help or "" for name, menu in self.menus.items()}}
        with formatter.section("Commands"):
            formatter.write_dl([(name, lines[name]) for name in self.list_commands(ctx)])


def load_command(module: str, name: str, packages: Collection[str] = _OF_THE_HOOKS) -> Any:
    """A command, or a group of them, from its module.

    Args:
        module: Its dotted name.
        name: Of the command in it.
        packages: What may be missing, as it is imported and installed.

    Raises:
        ClickException: One of them is missing.
    """
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in packages:
            raise click.ClickException(f"this needs {missing}, which is not installed: {install(*packages)}") from None
        raise
