"""``python -m mlflow_fireworks.emulator``: the local Fireworks as a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import click

from mlflow_fireworks.emulator import Emulator, StateError
from mlflow_fireworks.emulator.behaviours import Behaviours
from mlflow_fireworks.emulator.facts import PROFILES, listing


def _checked(words: tuple[str, ...]) -> tuple[str, ...]:
    try:
        Behaviours(words)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return words


@click.command(
    name="emulator",
    help="Run a local Fireworks until stopped; its URL is the first line printed.",
    # \b keeps click from filling the lines.
    epilog="\b\nWhere Fireworks' behaviour is not known (the first way is the default):\n" + listing(),
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="TCP port on loopback; 0 = any free port.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the state, which several emulators can share. Default: forget everything at exit.",
)
@click.option(
    "--landing-seconds",
    type=click.FloatRange(min=0),
    default=0.0,
    help="How long an uploaded file takes to appear; until then validateUpload returns code 9.",
)
@click.option(
    "--account", "accounts", multiple=True, help="An existing account; can be repeated. Default: any account."
)
@click.option("--api-key", "api_keys", multiple=True, help="An accepted API key; can be repeated. Default: any key.")
@click.option(
    "--behaviour",
    "behaviours",
    multiple=True,
    metavar="FACT=WAY",
    callback=lambda _context, _option, words: _checked(words),
    help="How to behave where Fireworks' behaviour is not known (see below), or one of the profiles "
    f"{' and '.join(PROFILES)}; can be repeated, the last one wins. FACT=WAY:5 and FACT=WAY:180s set how many polls "
    "or seconds a temporary way lasts.",
)
@click.option("--answer", is_flag=True, help="Run uploaded models on the CPU, so that inference returns real answers.")
@click.option(
    "--trust-remote-code",
    is_flag=True,
    help="With --answer: also run code from checkpoints (auto_map, modules.json). It runs as you, so read it first.",
)
@click.option("--stop-with-stdin", is_flag=True, help="Also stop when standard input is closed.")
@click.option("--quiet", is_flag=True, help="Do not log requests to standard error.")
def command(
    port: int,
    state: Path | None,
    landing_seconds: float,
    accounts: tuple[str, ...],
    api_keys: tuple[str, ...],
    *,
    behaviours: tuple[str, ...],
    answer: bool,
    trust_remote_code: bool,
    stop_with_stdin: bool,
    quiet: bool,
) -> None:
    """Serve until SIGTERM, Ctrl-C, or the end of standard input when asked for."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    log = None if quiet else _log
    try:
        with Emulator(
            state,
            port=port,
            log=log,
            landing_seconds=landing_seconds,
            accounts=accounts,
            api_keys=api_keys or None,
            behaviours=behaviours,
            answers=answer,
            trust_remote_code=trust_remote_code,
        ) as emulator:
            click.echo(emulator.url)
            sys.stdout.flush()
            if stop_with_stdin:
                threading.Thread(target=_wait_for_end, args=(stop,), daemon=True).start()
            stop.wait()
    except (OSError, StateError) as error:
        raise click.ClickException(f"the emulator cannot start: {error}") from error


def main(argv: Sequence[str] | None = None, *, called: str = "python -m mlflow_fireworks.emulator") -> int:
    """Run the command line; returns the exit status. `called` is what a person typed, for the help and the errors."""
    try:
        command.main(args=None if argv is None else list(argv), prog_name=called, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0


def _log(line: str) -> None:
    # One write per line, so that lines of several threads do not mix.
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _wait_for_end(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
