"""The embedded local Fireworks, started when the target `fireworks://local` is used.

It runs in a process of its own: Python would otherwise share one lock between the server's side and ours. It
ends with this process, sees none of its keys, and keeps its state on disk for the next command.
"""

import atexit
import json
import subprocess
import threading
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from mlflow_fireworks.answers import EndlessAnswerError, within
from mlflow_fireworks.commands import Commands
from mlflow_fireworks.errors import UnavailableError
from mlflow_fireworks.home import claim, state_folder
from mlflow_fireworks.progress import logger

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0


def local_state() -> Path:
    """The folder with the local Fireworks' models."""
    return state_folder() / "local"


def can_answer() -> bool:
    """Whether the packages of the extra `local` are there, with which the local Fireworks runs models for real."""
    return all(find_spec(name) for name in ("torch", "transformers", "sentence_transformers", "fastapi", "openai"))


@lru_cache
def local_url(state: Path) -> str:
    """The address of the local Fireworks with that state; starts it at the first call in this process.

    Args:
        state: Folder for its state; made when missing. Several processes may use the same.

    Raises:
        UnavailableError: It did not start.
    """
    from mlflow_fireworks.emulator import processes  # noqa: PLC0415 - only who starts one needs it

    state = state.absolute()  # it works in a folder of its own
    try:
        claim(state)
    except OSError as error:
        raise UnavailableError(
            f"the local Fireworks cannot keep its state in {state}: {error.strerror or error}; set "
            "MLFLOW_FIREWORKS_HOME to a folder of your own"
        ) from None
    process = processes.start(
        "mlflow_fireworks.emulator",
        *("--port", "0", "--state", str(state), "--quiet"),
        *(["--answer"] if can_answer() else []),
        folder=state,
        stdout=subprocess.PIPE,
        # A Ctrl-C is for the command; the server it talks to must still be there while it stops in good order.
        start_new_session=True,
    )
    try:
        line = within(_START_SECONDS, lambda: process.stdout.readline() if process.stdout else b"")
    except EndlessAnswerError:
        line = b""
    url = line.decode(errors="replace").strip()
    if not url.startswith("http://127.0.0.1:"):
        process.kill()
        raise UnavailableError(
            f"the local Fireworks did not start; see why with: {Commands.start_emulator(str(state))}"
        )
    atexit.register(_stop, process)
    return url


def keep_answering(url: str, address: str) -> None:
    """Say how to ask the model that runs here, then stay until Ctrl-C.

    Args:
        url: Of the local Fireworks.
        address: The model's.
    """
    body = json.dumps({"model": address, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 64})
    logger.info("answers any OpenAI client at %s/inference/v1 (any key), for example:", url)
    logger.info(
        "curl -s %s/inference/v1/chat/completions -H 'Authorization: Bearer local' "
        "-H 'Content-Type: application/json' -d '%s'",
        url,
        body,
    )
    logger.info("press Ctrl-C to stop it")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
