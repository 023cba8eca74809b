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
    transformers = importlib.import_module("transformers")
    peft = importlib.import_module("peft").PeftModel
    whole = transformers.AutoModelForCausalLM.from_pretrained(base, trust_remote_code=trusted)
    whole = peft.from_pretrained(whole, adapter).merge_and_unload()
    # Transformers 5.6 refuses to save defaults such as a temperature without sampling; the base's file is copied below.
    whole.generation_config = transformers.GenerationConfig()
    whole.save_pretrained(merged)
    (merged / "generation_config.json").unlink(missing_ok=True)
    for path in base.iterdir():  # the tokenizer, its templates and what is said about generating
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
