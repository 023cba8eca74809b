"""An adapter merged into its base, then served.

``python -m mlflow_fireworks.emulator.answers.merge FOLDER PORT [--trust-remote-code]``: FOLDER holds the adapter and a
link `base` to its base; the merged checkpoint is written beside them.
"""

from __future__ import annotations

import importlib
import runpy
import shutil
import sys
from pathlib import Path

TRUST = "--trust-remote-code"
_WEIGHTS = (".safetensors", ".bin", ".index.json")


def merge(base: Path, adapter: Path, merged: Path, *, trusted: bool = False) -> None:
    """Write a checkpoint that answers as the base does with the adapter."""
    # Not imported at the top: they take seconds, and only this process has and needs them.
    models = importlib.import_module("transformers").AutoModelForCausalLM
    peft = importlib.import_module("peft").PeftModel
    peft.from_pretrained(
        models.from_pretrained(base, trust_remote_code=trusted), adapter
    ).merge_and_unload().save_pretrained(merged)
    for path in base.iterdir():  # the tokenizer and its templates
        if path.is_file() and not path.name.endswith(_WEIGHTS) and not (merged / path.name).exists():
            shutil.copyfile(path, merged / path.name)


def main(folder: Path, port: str, *more: str) -> None:
    """Merge, then become the server of the result; what is given more goes to that."""
    merged = folder / "merged"
    merge(folder / "base", folder, merged, trusted=TRUST in more)
    sys.argv = ["transformers", "serve", str(merged), "--host", "127.0.0.1", "--port", port, "--device", "cpu", *more]
    runpy.run_module("transformers.cli.transformers", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
