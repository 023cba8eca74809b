"""Whether transformers would load a checkpoint: its own verdict on the names and shapes of the tensors.

The generic rules of `tensors` and `adapter_tensors` know nothing of an architecture. Where torch and transformers (and
for adapters peft) are installed, a program of its own (`meta_model`) builds the architecture from `config.json`
without weights, loads the names and shapes from the headers into it, and tells what the library finds missing,
unexpected, or of another shape. It takes some ten seconds and 390 MiB, most of both for importing torch (measured: the
69,975 tensors of a Kimi-K2 in 1,000 shards add eight seconds and 150 MiB), and never runs code of the checkpoint. What
a config asks for beyond the tensors that there are has bounds in tensors, bytes and seconds.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from huggingface_hub import try_to_load_from_cache

from mlflow_fireworks.artifacts.adapter import read_adapter
from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.documents import Document, Fault, parse_document, texts_of
from mlflow_fireworks.artifacts.safetensors import Header
from mlflow_fireworks.artifacts.selection import ADAPTER_CONFIG
from mlflow_fireworks.config import Kind
from mlflow_fireworks.installing import install
from mlflow_fireworks.names import enumerate_names

Verify = Literal["auto", "headers", "load"]
_PROGRAM = "mlflow_fireworks.artifacts.meta_model"
# Isolated (-I): neither the current folder nor PYTHONPATH decides what is imported.
_START = f"import runpy, sys; sys.path += sys.argv[2:]; runpy.run_module('{_PROGRAM}', run_name='__main__')"
_PACKAGES = ("mlflow_fireworks", "torch", "transformers", "peft", "numpy", "safetensors", "huggingface_hub")
_TIMEOUT_SECONDS = 120
_SHOWN = 5
_MOST_REASON = 200
# What the program needs of the environment: to find Python's and torch's libraries, and a folder for temporary files.
_ENVIRONMENT = (
    *("PATH", "HOME", "USERPROFILE", "SYSTEMROOT", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "COVERAGE_PROCESS_CONFIG"),
)


@dataclass(frozen=True)
class LoadCheck:
    """What came of it.

    Args:
        note: What the tensors were held against, for a person.
        problems: Why the checkpoint would not load as it was trained.
        warnings: What may surprise.
    """

    note: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Verdict:
    """What the library said; see `meta_model.judge`."""

    model: str
    library: str
    expected: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    broken: tuple[str, ...]


def check_loading(
    checkpoint: Checkpoint,
    headers: Mapping[str, Header | Fault],
    verify: Verify,
    *,
    is_quantised: bool,
    seconds: float = _TIMEOUT_SECONDS,
) -> LoadCheck:
    """Ask transformers or peft what they would make of the tensors, where that is possible and wanted.

    Args:
        checkpoint: What is to go up; the generic rules found no fault in its tensors.
        headers: From `read_headers`.
        verify: `headers` asks nothing; with `load` it is a problem when nothing could be asked.
        is_quantised: Whether its weights are packed, so that their shapes are not the architecture's.
        seconds: Longest wait for their verdict.

    Returns:
        The verdict, and a note that tells what was checked.
    """
    tensors = _list_tensors(checkpoint, headers)
    count = f"the names and shapes of {len(tensors)} tensors" if tensors else "the small files"
    if verify == "headers":
        return LoadCheck(f"checked {count} by general rules (-C verify=headers)")
    config = _find_config(checkpoint)
    obstacle = _find_obstacle(checkpoint, tensors, config, is_quantised=is_quantised)
    found = obstacle or _ask(checkpoint, config, tensors, seconds)
    if isinstance(found, str):
        note = f"checked {count} by general rules, but not against the architecture: {found}"
        problem = f"-C verify=load asks for a check against the architecture, which is not possible here: {found}"
        return LoadCheck(note, problems=(problem,) if verify == "load" else ())
    return _judge_adapter(found, count) if checkpoint.kind is Kind.ADDON else _judge_model(found, count)


def _judge_model(verdict: _Verdict, count: str) -> LoadCheck:
    note = f"checked {count} against {verdict.model} in {verdict.library}, which finds everything it needs"
    unread = enumerate_names(verdict.unexpected, _SHOWN)
    aside = f"; it would ignore {unread}" if unread else ""
    problems = tuple(_describe_faults(verdict, verdict.model, aside))
    warning = f"{verdict.model} in {verdict.library} would ignore {len(verdict.unexpected)} tensors: {unread}"
    return LoadCheck(note, problems, (warning,) if unread and not problems else ())


def _judge_adapter(verdict: _Verdict, count: str) -> LoadCheck:
    """What peft cannot place in the base model it ignores, so a part of what was trained would be lost."""
    what = f"an adapter of {verdict.model}"
    note = f"checked {count} against {what} in {verdict.library}, which finds everything it needs"
    problems = _describe_faults(verdict, what, "")
    if verdict.unexpected:
        unread = enumerate_names(verdict.unexpected, _SHOWN)
        problems.append(
            f"{verdict.library} would ignore {len(verdict.unexpected)} of its tensors, which {verdict.model} does "
            f"not have: {unread}; was the adapter trained on another base model?"
        )
    return LoadCheck(note, tuple(problems))


def _list_tensors(
    checkpoint: Checkpoint, headers: Mapping[str, Header | Fault]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The tensors of the top folder; none when one of its headers is unknown."""
    weights = checkpoint.weights.get("")
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name in weights.files if weights else ():
        header = headers.get(name)
        if not isinstance(header, Header) or not name.endswith(".safetensors"):
            return {}
        tensors |= {key: (header.dtypes[key], shape) for key, shape in header.shapes.items()}
    return tensors


def _find_config(checkpoint: Checkpoint) -> Document:
    """`config.json`; of an adapter its base's, from beside it or from what was downloaded of the Hub before."""
    if checkpoint.kind is not Kind.ADDON or "config.json" in checkpoint.documents:
        return checkpoint.document("config.json")
    adapter = read_adapter(checkpoint.document(ADAPTER_CONFIG))
    kept = adapter.base_repo and try_to_load_from_cache(
        adapter.base_repo, "config.json", revision=adapter.base_revision or "main"
    )
    found = parse_document(Path(kept).read_bytes()) if isinstance(kept, str) else {}
    return {} if isinstance(found, Fault) else found


def _find_obstacle(
    checkpoint: Checkpoint, tensors: Mapping[str, object], config: Document, *, is_quantised: bool
) -> str | None:
    """Why nothing can be asked."""
    is_adapter = checkpoint.kind is Kind.ADDON
    needed = ("torch", "transformers", *(("peft",) if is_adapter else ()))
    if lacking := [name for name in needed if find_spec(name) is None]:
        verb = "is" if len(lacking) == 1 else "are"
        return f"{' and '.join(lacking)} {verb} not installed here ({install('mlflow-fireworks[local]')})"
    if not tensors:
        return "the headers of its weights were not read (.bin files, or a store that only sends whole files)"
    if is_quantised:
        return "quantised weights have different shapes from their architecture"
    if is_adapter and not config:
        return "the config.json of its base model is neither next to it nor in the cache of the Hugging Face Hub"
    if not texts_of(config, "architectures"):
        return "config.json names no architecture"
    return None


def _ask(checkpoint: Checkpoint, config: Document, tensors: Mapping[str, object], seconds: float) -> _Verdict | str:
    """Run the program; a text says why it has no verdict."""
    is_adapter = checkpoint.kind is Kind.ADDON
    question = {
        "config": config,
        "tensors": tensors,
        "headless": checkpoint.kind is Kind.EMBEDDING,
        "adapter": checkpoint.document(ADAPTER_CONFIG) if is_adapter else None,
    }
    with TemporaryDirectory(prefix="mlflow-fireworks-") as folder:
        Path(folder, "question.json").write_text(json.dumps(question), encoding="utf-8")
        try:
            subprocess.run(  # noqa: S603  # our interpreter, no shell
                [sys.executable, "-I", "-c", _START, folder, *_find_packages()],
                cwd=folder,
                env=_limited_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
                check=True,
            )
            answer = json.loads(Path(folder, "answer.json").read_text(encoding="utf-8"))
        except subprocess.TimeoutExpired:
            return f"it took longer than {seconds:g} seconds"
        except (subprocess.CalledProcessError, OSError, ValueError):
            return "the process that builds it ended early, perhaps for lack of memory"
    if "unknown" in answer:
        return " ".join(answer["unknown"].split())[:_MOST_REASON]
    verdict = _read_verdict(answer, headless=question["headless"] is True)
    if "auto_map" in config and 2 * len(verdict.missing) > verdict.expected:
        return f"the checkpoint has its own code, whose tensors are not those of {verdict.model}"
    return verdict


def _read_verdict(answer: Mapping[str, Any], *, headless: bool) -> _Verdict:
    # Vectors are made of the last layer, before what a pooler adds.
    missing = [name for name in answer["missing"] if not (headless and "pooler." in name)]
    return _Verdict(
        answer["model"],
        answer["library"],
        answer["expected"],
        tuple(missing),
        tuple(answer["unexpected"]),
        tuple((name, tuple(found), tuple(wanted)) for name, found, wanted in answer["mismatched"]),
        tuple(answer["broken"]),
    )


def _find_packages() -> list[str]:
    """The folders that hold the packages that the program imports; nothing else of the caller's search path counts."""
    specs = [find_spec(name) for name in _PACKAGES]
    return list(dict.fromkeys(str(Path(spec.origin).parent.parent) for spec in specs if spec and spec.origin))


def _limited_environment(folder: str) -> dict[str, str]:
    """No key, no token, no network, no GPU."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return kept | {
        "HF_HOME": folder,
        "HF_HUB_OFFLINE": "1",
        "HF_DEACTIVATE_ASYNC_LOAD": "1",  # threads would only hold more tensors at once
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


def _describe_faults(verdict: _Verdict, what: str, aside: str) -> list[str]:
    faults = []
    if verdict.missing:
        total = f"{len(verdict.missing)} of the {verdict.expected} tensors of {what} are missing"
        named = enumerate_names(verdict.missing, _SHOWN)
        faults.append(f"{total}, which {verdict.library} would initialise at random: {named}{aside}")
    if verdict.mismatched:
        shown = [f"{name} is {list(found)}, not {list(wanted)}" for name, found, wanted in verdict.mismatched]
        named = enumerate_names(shown, _SHOWN)
        faults.append(f"{len(shown)} tensors have different shapes from those of {what} in {verdict.library}: {named}")
    if verdict.broken:
        faults.append(f"{verdict.library} cannot build {what} from it: {enumerate_names(verdict.broken, _SHOWN)}")
    return faults
