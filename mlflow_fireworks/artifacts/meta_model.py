"""The program that asks transformers and peft what they would make of a checkpoint; see `load_check`.

It runs by itself (`python -m mlflow_fireworks.artifacts.meta_model FOLDER`), because torch takes seconds and hundreds
of MiB that a worker should not carry on with. `FOLDER/question.json` holds the config and the tensors' names and
shapes; the answer is left in `FOLDER/answer.json`. Everything is built on torch's meta device, where tensors have no
bytes, and loaded with `from_pretrained` itself, so that its renaming, tied weights and exceptions are those of the
installed version.
"""

import ctypes
import importlib
import json
import logging
import re
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# How far the architecture of a config may go beyond the tensors that there are. A decoder with a matrix for each expert
# has 46,000 (DeepSeek-V3); one that was edited to a million layers ends here, after seconds.
_MOST_EXTRA_TENSORS = 50_000
# What a model may take over the libraries themselves, and for each of its tensors (measured: 380 MiB for 70,000).
_MOST_EXTRA_BYTES, _MOST_BYTES_OF_TENSOR = 512 * 1024**2, 8 * 1024
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_INTEGERS = {"BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64"}
# Settings that would run other code than transformers' own, or fetch it.
_FOREIGN_SETTINGS = ("auto_map", "quantization_config", "fusion_config", "transformers_weights")
_CONVERSION = re.compile(r"^(\S+)\s*\|[^|]*CONVERSION", re.MULTILINE)
_MISMATCH = re.compile(r"- (\S+): found shape torch\.Size\(\[(.*?)\]\) in the checkpoint and torch\.Size\(\[(.*?)\]\)")


class _UnknownError(Exception):
    """The libraries that are installed cannot tell."""


class _TooLargeError(Exception):
    """The architecture has far more tensors than there are."""


class _RefusedError(Exception):
    """What config.json says is nothing that its class can be made of."""


def judge(question: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Load a checkpoint that has no bytes.

    Args:
        question: `config` (config.json), `tensors` (name to safetensors' dtype and shape), `headless` (whether only the
            model below the head is used, as for embeddings), `adapter` (adapter_config.json, or None).
        folder: An empty folder.

    Returns:
        `model` (the class), `library`, `expected` (how many tensors it has), `missing`, `unexpected`, `mismatched`
        (name, found, expected) and `broken`; or `unknown` with a reason.
    """
    most = _MOST_EXTRA_TENSORS + len(question["tensors"])
    try:
        config, model_class = _choose_class(question["config"], folder, headless=question["headless"])
        judge_it = _judge_adapter if question["adapter"] else _judge_model
        with _bounded_tensors(most):
            return judge_it(model_class, config, question)
    except _UnknownError as error:
        return {"unknown": str(error)}
    except _TooLargeError:
        return _refuse(question, f"config.json describes more than {most} tensors, not {len(question['tensors'])}")
    except _RefusedError as error:
        return _refuse(question, f"{error}; -C verify=headers skips this check")
    except Exception as error:  # noqa: BLE001  # any model's own code may fail on a config in any way
        return {"unknown": _describe(error)}


def _refuse(question: Mapping[str, Any], why: str) -> dict[str, Any]:
    """A fault of the model; of an adapter's base, which is not what goes up, one more thing that is not known."""
    if question["adapter"]:
        return {"unknown": f"of its base model, {why}"}
    return _answer(next(iter(question["config"]["architectures"])), "transformers", 0, broken=[why])


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def _describe(error: Exception) -> str:
    if _lacks_memory(error):
        return "what config.json describes takes more memory than a model of so many tensors"
    return f"{type(error).__name__}: {' '.join(str(error).split('Exception raised from')[0].split())}"


def _choose_class(settings: Mapping[str, Any], folder: Path, *, headless: bool) -> tuple[Any, Any]:
    transformers = importlib.import_module("transformers")
    own = {key: value for key, value in settings.items() if key not in _FOREIGN_SETTINGS and not key.startswith("_")}
    (folder / "config.json").write_text(json.dumps(own), encoding="utf-8")
    if own.get("model_type") not in transformers.CONFIG_MAPPING:
        raise _UnknownError(f"transformers {transformers.__version__} has no model_type {own.get('model_type')}")
    with _refusing():
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if headless:
        mapping = transformers.MODEL_MAPPING
        if type(config) not in mapping:
            raise _UnknownError(f"transformers {transformers.__version__} has no AutoModel for {config.model_type}")
        found = mapping[type(config)]
        return config, found[0] if isinstance(found, tuple) else found
    name = next(iter(settings.get("architectures") or ()), "")
    model_class: Any = getattr(transformers, name, None) if name.isidentifier() else None
    if not (isinstance(model_class, type) and issubclass(model_class, transformers.PreTrainedModel)):
        raise _UnknownError(f"transformers {transformers.__version__} has no {name or 'architectures'}")
    config_class = getattr(model_class, "config_class", None)
    if config_class is not None and not isinstance(config, config_class):
        raise _UnknownError(f"{name} is not a class for model_type {config.model_type}")
    return config, model_class


def _judge_model(model_class: Any, config: Any, question: Mapping[str, Any]) -> dict[str, Any]:
    tensors = _make_tensors(question["tensors"])
    with _transformers_report() as report:
        try:
            model, info = model_class.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                device_map={"": "meta"},
                attn_implementation="eager",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except _TooLargeError:
            raise
        except Exception as error:
            if broken := _CONVERSION.findall("\n".join(report)):
                return _answer(model_class.__name__, "transformers", 0, broken=broken)
            with _refusing(), importlib.import_module("torch").device("meta"):
                model_class(config)
            raise error from None
    missing = set(info["missing_keys"])
    return _answer(
        model_class.__name__,
        "transformers",
        len(model.state_dict()),
        missing=missing,
        unexpected=info["unexpected_keys"],
        mismatched=[(name, list(found), list(wanted)) for name, found, wanted in info["mismatched_keys"]],
    )


def _judge_adapter(model_class: Any, config: Any, question: Mapping[str, Any]) -> dict[str, Any]:
    torch, peft = importlib.import_module("torch"), importlib.import_module("peft")
    settings = {**question["adapter"], "init_lora_weights": False}
    with torch.device("meta"):
        base = model_class(config)
    try:
        wanted = peft.PeftConfig.from_peft_type(**settings)
        model = peft.get_peft_model(base, wanted, low_cpu_mem_usage=True)
    except ValueError as error:  # its layers are not in this model
        return _answer(model_class.__name__, "peft", 0, broken=[str(error)])
    saved = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = peft.set_peft_model_state_dict(
                model, _make_tensors(question["tensors"]), ignore_mismatched_sizes=True, low_cpu_mem_usage=True
            )
        except KeyError as error:  # of modules_to_save
            return _answer(model_class.__name__, "peft", len(saved), missing=error.args)
    mismatched = [
        (_without_adapter_name(name), _numbers(found), _numbers(wanted))
        for warning in caught
        for name, found, wanted in _MISMATCH.findall(str(warning.message))
    ]
    missing = {_without_adapter_name(name) for name in result.missing_keys if "lora_" in name or ".default." in name}
    return _answer(
        model_class.__name__,
        "peft",
        len(saved),
        missing=missing - {name for name, _, _ in mismatched},
        unexpected=map(_without_adapter_name, result.unexpected_keys),
        mismatched=mismatched,
    )


def _without_adapter_name(name: str) -> str:
    """A key as `save_pretrained` writes it."""
    return name.replace(".modules_to_save.default.", ".").replace(".default", "")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number.strip()]


def _make_tensors(entries: Mapping[str, Any]) -> dict[str, Any]:
    torch = importlib.import_module("torch")
    return {
        name: torch.empty(shape, dtype=getattr(torch, _INTEGERS.get(dtype, "bfloat16")), device="meta")
        for name, (dtype, shape) in entries.items()
    }


def _answer(
    model: str,
    library: str,
    expected: int,
    *,
    missing: Iterable[str] = (),
    unexpected: Iterable[str] = (),
    mismatched: Iterable[tuple[str, list[int], list[int]]] = (),
    broken: Iterable[str] = (),
) -> dict[str, Any]:
    return {
        "model": model,
        "library": f"{library} {importlib.import_module(library).__version__}",
        "expected": expected,
        "missing": sorted(missing),
        "unexpected": sorted(unexpected),
        "mismatched": sorted(mismatched),
        "broken": list(broken),
    }


@contextmanager
def _refusing() -> Iterator[None]:
    """What transformers does not make of a config, for other reasons than what is installed here."""
    try:
        yield
    except (ImportError, OSError, _TooLargeError):
        raise
    except Exception as error:
        if _lacks_memory(error):
            raise
        raise _RefusedError(f"config.json was rejected ({_describe(error)})") from error


@contextmanager
def _bounded_tensors(most: int) -> Iterator[None]:
    """Stop whoever builds a model with more parameters than that."""
    seen: set[tuple[int, str]] = set()

    def count(module: object, name: str, _: object) -> None:
        seen.add((id(module), name))
        if len(seen) > most:
            raise _TooLargeError

    hooks = importlib.import_module("torch.nn.modules.module")
    handle = hooks.register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _transformers_report() -> Iterator[list[str]]:
    """What transformers says while it loads; only there it names tensors that it could not put together."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def _bound_memory(tensors: int) -> None:
    """A config that asks for a list of a thousand million ends this program, not the machine. Linux only."""
    with suppress(ImportError, OSError, ValueError):
        resource = importlib.import_module("resource")
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + _MOST_EXTRA_BYTES + tensors * _MOST_BYTES_OF_TENSOR
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _end_with_starter() -> None:
    """Also after `kill -9` of whoever started it, and in the middle of a regular expression. Linux only."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Read the question, leave the answer."""
    _end_with_starter()
    folder = Path(sys.argv[1])
    question = json.loads((folder / "question.json").read_text(encoding="utf-8"))
    for library in ("torch", "transformers.modeling_utils", *(("peft",) if question["adapter"] else ())):
        importlib.import_module(library)
    _bound_memory(len(question["tensors"]))
    answer = judge(question, folder)
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
