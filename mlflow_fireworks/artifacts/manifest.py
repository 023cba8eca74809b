"""What goes up: the complete list of files under their Fireworks names, and what was found out about them."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from huggingface_hub import HfApi

from mlflow_fireworks.artifacts.adapter import Adapter, find_adapter_warnings, read_adapter
from mlflow_fireworks.artifacts.checkpoint import Checkpoint, make_checkpoint
from mlflow_fireworks.artifacts.content import Part
from mlflow_fireworks.artifacts.context_length import find_context_length
from mlflow_fireworks.artifacts.conversion import find_converted
from mlflow_fireworks.artifacts.documents import Fault, text_of
from mlflow_fireworks.artifacts.evidence import collect_evidence, find_base_names
from mlflow_fireworks.artifacts.facts import Facts, find_facts
from mlflow_fireworks.artifacts.fingerprint import fingerprint
from mlflow_fireworks.artifacts.kinds import generates
from mlflow_fireworks.artifacts.known_hashes import FileState, KnownHashes, find_states
from mlflow_fireworks.artifacts.layout import Layout, find_layout
from mlflow_fireworks.artifacts.lineage import Lineage, find_lineage, read_explicit
from mlflow_fireworks.artifacts.load_check import check_loading
from mlflow_fireworks.artifacts.preflight import (
    find_doubts,
    find_lack_of_disk,
    find_problems,
    find_weights_problems,
    read_headers,
)
from mlflow_fireworks.artifacts.quantisation import WHAT_IS_KNOWN_OF_QUANTISED, find_quantisation
from mlflow_fireworks.artifacts.reference import OpenSource
from mlflow_fireworks.artifacts.repository import Repository
from mlflow_fireworks.artifacts.safetensors import Header
from mlflow_fireworks.artifacts.selection import ADAPTER_CONFIG
from mlflow_fireworks.artifacts.shards import divide_weights, find_many_shards
from mlflow_fireworks.artifacts.sources.disk import bound_disk, measure_free_bytes
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.artifacts.sources.scratch import temporary_folder
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.artifacts.unwrapping import unwrap
from mlflow_fireworks.config import Config, Kind
from mlflow_fireworks.errors import PreflightError
from mlflow_fireworks.progress import Reporter, count_files, format_bytes


@dataclass(frozen=True)
class ManifestFile:
    """One file to upload.

    Args:
        name: Its name on Fireworks (POSIX, relative).
        size: Its length in bytes.
        origin: Where it lies in the artifacts, or what made it.
        content: Its bytes.
    """

    name: str
    size: int
    origin: str
    content: Part


@dataclass(frozen=True)
class Manifest:
    """Everything that Fireworks is told and sent, checked.

    Args:
        kind: What the model is to Fireworks.
        files: All files: configuration and tokenizer first, so that they have landed when validation begins; then
            the weights, largest first, so that none is left running alone at the end.
        facts: What the files say about the model.
        adapter: The LoRA details of an addon.
        lineage: From which Hugging Face repository it comes.
        fingerprint: 16 hexadecimal digits that name the content, the same on every machine.
        flavor: How MLflow logged it: `transformers`, `sentence_transformers`, `pyfunc`; `files`, `huggingface`.
        location: Its folder in the artifacts, empty for their root, or a `hf:/` address.
        notes: What was decided on the way.
        warnings: What may surprise.
        states: The files on this machine that it is read from, as they were then.
    """

    kind: Kind
    files: tuple[ManifestFile, ...]
    facts: Facts
    adapter: Adapter | None
    lineage: Lineage
    fingerprint: str
    flavor: str
    location: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    states: frozenset[FileState] = frozenset()

    @property
    def total_size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def build_manifest(
    source: Source,
    config: Config,
    reporter: Reporter,
    *,
    hub: HfApi | None = None,
    open_reference: OpenSource | None = None,
    hashes: KnownHashes | None = None,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Manifest:
    """Find the checkpoint of a model, check it, and list what goes up. Nothing but `hashes` is written.

    Args:
        source: The model.
        config: Its options.
        reporter: Told when reading takes long.
        hub: Client of the Hugging Face Hub; by default the one the environment describes.
        open_reference: Opens the `hf:/org/name@commit` of models that were logged without their weights; by default
            `open_source`.
        hashes: Of plain files that earlier runs have read; none when None.
        is_wanted: Whether somebody still wants the result; asked while weights are read.

    Returns:
        The manifest.

    Raises:
        CheckpointError: Nothing that Fireworks can serve, or several checkpoints to choose from.
        PreflightError: A checkpoint with faults; carries all of them.
        InvalidConfigError: `hugging_face_url` names no repository.
        NotWantedError: Nobody wants it any more.
    """
    read_explicit(config.hugging_face_url)
    open_default = partial(open_source, reporter=reporter, max_disk=config.max_disk, relay=config.relay == "auto")
    layout = find_layout(source, config, open_reference or open_default)
    trust = config.trust_remote_code if "trust_remote_code" in config.model_fields_set else None
    checkpoint = make_checkpoint(layout, config.kind, source.resolved, trust=trust)
    headers: Mapping[str, Header | Fault] = read_headers(checkpoint)
    if layout.beside_adapter:
        checkpoint, headers = unwrap(checkpoint, headers)
    faults = find_weights_problems(checkpoint, headers)
    problems = list(dict.fromkeys([*find_problems(checkpoint, headers, layout.links), *faults]))
    quantised = find_quantisation(checkpoint, headers, layout.files)
    if quantised and not config.allow_quantized:
        problems.append(
            f"{quantised}; {WHAT_IS_KNOWN_OF_QUANTISED}: upload the unquantised model, or send this one "
            "with -C allow_quantized=true"
        )
    doubts = find_doubts(checkpoint, find_converted(source, checkpoint))
    if not config.force_adapter:
        problems += [f"{doubt}, or send it as it is with -C force_adapter=true" for doubt in doubts]
    # Without all of the weights, each lack of theirs would be found once more.
    check = None if faults else check_loading(checkpoint, headers, config.verify, is_quantised=bool(quantised))
    problems += check.problems if check else ()
    if config.transfer == "upload":
        problems += find_lack_of_disk(checkpoint, headers, max_disk=config.max_disk)
    if problems:
        raise PreflightError(problems, source.resolved)
    read = {name: header for name, header in headers.items() if not isinstance(header, Fault) and header.shapes}
    adapter = _read_adapter(layout, checkpoint)
    facts = find_facts(checkpoint, read)
    if quantised:
        facts = replace(facts, parameter_count=None)  # packed weights cannot be counted by their shapes
    finding = find_lineage(collect_evidence(source, layout, checkpoint), config, hub or HfApi())
    lineage = finding.lineage
    if adapter and adapter.base_repo:
        lineage = replace(lineage, base_url=Repository(adapter.base_repo, certain=True).url)
    # An import copies files as they are; a size that the user asked for is refused there.
    is_kept = config.transfer == "import" and config.shard_size == "auto"
    divided = divide_weights(checkpoint, headers, "off" if is_kept else config.shard_size, facts.parameter_count)
    states = find_states(checkpoint.files.values())
    return Manifest(
        kind=checkpoint.kind,
        files=_order_files(divided),
        facts=facts,
        adapter=adapter,
        lineage=lineage,
        fingerprint=fingerprint(checkpoint, divided, reporter, hashes or KnownHashes(None), is_wanted),
        states=states,
        flavor=layout.flavor,
        location=layout.location,
        notes=(*divided.notes, *([check.note] if check else ()), *_describe_ways(divided, config), *finding.notes),
        warnings=(
            *layout.warnings,
            *checkpoint.warnings,
            *doubts,
            *(check.warnings if check else ()),
            *([f"{quantised}; {WHAT_IS_KNOWN_OF_QUANTISED}, so validation may refuse it"] if quantised else ()),
            *_find_warnings(checkpoint, facts, adapter),
            *(find_many_shards(divided) if config.transfer == "upload" and config.shard_size == "auto" else ()),
            *finding.warnings,
        ),
    )


def _describe_ways(checkpoint: Checkpoint, config: Config) -> Iterator[str]:
    """How files of a remote store go up, and why; what must be fetched takes temporary disk."""
    stored = {file for part in checkpoint.files.values() for file in part.sources if not file.is_here()}
    if not stored or config.transfer != "upload":
        return
    relayed = [file.size for file in stored if not file.why_fetched]
    if relayed:
        yield (
            "streamed from the store to Fireworks, without temporary files: "
            f"{count_files(len(relayed))} ({format_bytes(sum(relayed))})"
        )
    sizes = [file.size for file in stored if file.why_fetched]
    if sizes:
        folder = temporary_folder()
        most = min(bound_disk(sizes, config.max_workers, config.max_disk), measure_free_bytes(folder))
        why = "; ".join(sorted({file.why_fetched or "" for file in stored} - {""}))
        yield (
            f"fetched as they are uploaded ({why}), with at most {format_bytes(most)} at a time in {folder} "
            f"(-C max_disk=): {count_files(len(sizes))} ({format_bytes(sum(sizes))})"
        )


def _read_adapter(layout: Layout, checkpoint: Checkpoint) -> Adapter | None:
    if checkpoint.kind is not Kind.ADDON:
        return None
    return read_adapter(checkpoint.document(ADAPTER_CONFIG), find_base_names(layout, checkpoint))


def _order_files(checkpoint: Checkpoint) -> tuple[ManifestFile, ...]:
    weights = set(checkpoint.weight_names())

    def place(name: str) -> tuple[bool, int, str]:
        return (name in weights, -checkpoint.files[name].size if name in weights else 0, name)

    return tuple(
        ManifestFile(name, checkpoint.files[name].size, checkpoint.files[name].origin, checkpoint.files[name])
        for name in sorted(checkpoint.files, key=place)
    )


def _find_collisions(checkpoint: Checkpoint) -> list[list[str]]:
    """Files that differ in their folders alone; datasets on Fireworks keep the last part of a name only."""
    by_last: dict[str, list[str]] = defaultdict(list)
    for name in sorted(checkpoint.files):
        by_last[name.rpartition("/")[2]].append(name)
    return [names for names in by_last.values() if len(names) > 1]


def _find_warnings(checkpoint: Checkpoint, facts: Facts, adapter: Adapter | None) -> list[str]:
    if adapter is not None:
        family = text_of(checkpoint.document("config.json"), "model_type")
        return find_adapter_warnings(checkpoint.document(ADAPTER_CONFIG), adapter, family)
    warnings = [
        f"{' and '.join(names)} would become one file if Fireworks kept only the last part of their names, as it "
        "does for datasets; whether it does so for models is not known"
        for names in _find_collisions(checkpoint)
    ]
    if checkpoint.kind is Kind.BASE and not generates(facts.architectures, facts.model_type):
        warnings.append(
            f"{', '.join(facts.architectures)} does not generate text, so Fireworks is unlikely to serve it"
        )
    if stretched := find_context_length(checkpoint).warning:
        warnings.append(stretched)
    if "tokenizer_config.json" not in checkpoint.files:
        warnings.append(
            "there is no tokenizer_config.json; Fireworks then knows no chat template and no special tokens"
        )
    elif checkpoint.kind is Kind.BASE and not facts.has_chat_template:
        warnings.append(
            "the tokenizer has no chat template, so the model will answer completions but not chat requests"
        )
    processors = ("preprocessor_config.json", "processor_config.json")
    if facts.supports_image_input and not any(name in checkpoint.files for name in processors):
        warnings.append("the model accepts images but has no preprocessor_config.json; its deployment will fail")
    return warnings
