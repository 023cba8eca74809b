"""Fireworks fetches the checkpoint itself, from the bucket in which MLflow keeps it (`-C transfer=import`).

An import copies one folder as it lies there: it cannot merge folders, rename, leave out or make files. Whether that
gives what an upload would give is decided here, before anything is asked of Fireworks; then it is asked and waited for.
"""

from dataclasses import replace

from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.manifest import Manifest, ManifestFile
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import (
    AlreadyExistsError,
    CheckpointError,
    FailedPreconditionError,
    FailedStateError,
    UnexpectedAnswerError,
)
from mlflow_fireworks.gateway.models import Models
from mlflow_fireworks.gateway.operations import ImportSource, Operation, hide_secrets
from mlflow_fireworks.gateway.wire import READY
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.pipeline.bucket import UPLOAD_INSTEAD
from mlflow_fireworks.pipeline.steps import Step, begin
from mlflow_fireworks.progress import Reporter, format_bytes, format_seconds
from mlflow_fireworks.run import Run
from mlflow_fireworks.waiting import Pending

_EXTRA_WORTH_A_WARNING = 0.05
_SHOWN = 5


def find_folder(source: Source, manifest: Manifest, origin: ImportSource, reporter: Reporter) -> ImportSource:
    """Find the one folder whose copy gives Fireworks the files it needs, under the names it needs.

    Args:
        source: The model.
        manifest: What an upload would send.
        origin: The source's folder, as `find_origin` gives it.
        reporter: Is told what will come along.

    Returns:
        The folder of the checkpoint.

    Raises:
        CheckpointError: There is none; tells which files, and what to do.
    """
    folder = _find_common_folder(source, manifest, origin)
    origin = replace(origin, path="/".join(part for part in (origin.path, folder) if part))
    prefix = f"{folder}/" if folder else ""
    needed = {prefix + file.name for file in manifest.files}
    extra = {path: size for path, size in source.files.items() if path.startswith(prefix) and path not in needed}
    if extra:
        size = sum(extra.values())
        largest_first = sorted(extra, key=lambda path: -extra[path])
        along = f"{enumerate_names(largest_first, _SHOWN)} ({format_bytes(size)})"
        if manifest.kind is Kind.ADDON:
            raise CheckpointError(
                f"{origin.address} holds more than the adapter: {along}. An import takes the whole folder, and "
                f"Fireworks refuses such files in an addon; an adapter is small: {UPLOAD_INSTEAD}"
            )
        tell = reporter.warn if size > _EXTRA_WORTH_A_WARNING * manifest.total_size else reporter.note
        tell(f"an import takes the whole folder, so Fireworks will also fetch {along}")
    reporter.note(f"to be imported from {origin.address}, {origin.access}")
    return origin


def import_files(run: Run, model_id: str, origin: ImportSource, again: str) -> bool:
    """Steps 2 and 3 of an import: ask Fireworks to fetch a model's files, and wait until it has.

    Asking again is harmless: a run that was cut off, or whose reply was lost, ends well.

    Args:
        run: The account and the options; with `synchronous=false` nothing is waited for.
        model_id: A model in state UPLOADING.
        origin: The folder, and how Fireworks may read it.
        again: The command that goes on waiting, for messages.

    Returns:
        Whether the model waits for validation now.

    Raises:
        RefusedError: Fireworks does not want to; its reason is quoted.
        FailedStateError: The import failed; Fireworks' reason is quoted.
        DeadlineError: It takes longer than the limit; it goes on without us.
    """
    begin(run.reporter, Step.PREPARE, f"ask Fireworks to import {origin.address}")
    operation = _start(run.gateway.models, model_id, origin, run.reporter)
    if not run.config.synchronous:
        run.reporter.note(f"Fireworks is fetching the files; finish with: {again}")
        return False
    begin(run.reporter, Step.TRANSFER, "wait until Fireworks has fetched the files")
    if operation is not None:
        _wait(run, operation, origin, again)
    return not _is_ready(run.gateway.models, model_id)


def _start(models: Models, model_id: str, origin: ImportSource, reporter: Reporter) -> Operation | None:
    """The operation to wait for, or None when Fireworks says that it was asked before."""
    try:
        return models.import_files(model_id, origin)
    except AlreadyExistsError as error:
        refusal = error.server_message
    except FailedPreconditionError as error:
        if not _is_ready(models, model_id):
            raise
        refusal = error.server_message
    reporter.note(f"      Fireworks was asked before: {refusal}")
    return None


def _is_ready(models: Models, model_id: str) -> bool:
    model = models.find(model_id)
    return model is not None and model.state == READY


def _wait(run: Run, started: Operation, origin: ImportSource, again: str) -> None:
    """Look at the operation until it is done; one that Fireworks does not know is left to validation."""
    if not (started.name or started.done):
        raise UnexpectedAnswerError(
            f"Fireworks accepted the import of {origin.address} but returned no operation to "
            f"wait for; check on it with: {again}"
        )
    known: Operation | None = started

    def look() -> Operation | Pending | None:
        nonlocal known
        current, known = known, None
        current = current or run.gateway.models.find_operation(started.name)
        if current is None or current.done:
            return current
        return Pending(hide_secrets(current.progress, origin.secrets) or "importing")

    def give_up(reason: str) -> str:
        return (
            f"{origin.address} has not been imported after {format_seconds(run.config.import_timeout)} "
            f"({started.name}: "
            f"{reason}); Fireworks continues in the background; wait for it with: {again}"
        )

    operation = run.waiter.wait(look, run.config.import_timeout, give_up)
    if operation is None:
        run.reporter.warn(f"Fireworks does not know {started.name}; asking for validation instead of waiting for it")
    elif operation.error.code:
        message = " ".join(operation.error.message.split()) or "Fireworks gives no reason"
        reason = hide_secrets(message, origin.secrets)
        raise FailedStateError(
            f"Fireworks could not import {origin.address}: {reason} (code {operation.error.code}); check that it "
            "has access to the bucket, then run the same command again",
            server_message=reason,
        )


def _describe_making(file: ManifestFile) -> str:
    return file.origin if file.origin.startswith("made ") else f"made from {file.origin}"


def _find_common_folder(source: Source, manifest: Manifest, origin: ImportSource) -> str:
    """The one folder below the source's that holds every file under the name it needs."""
    if manifest.location.startswith("hf:"):
        raise CheckpointError(
            f"the weights of {source.resolved} are not in {origin.address} but come from {manifest.location}; "
            f"{UPLOAD_INSTEAD}"
        )
    problems: list[str] = []
    folders: dict[str, str] = {}
    for file in manifest.files:
        content = file.content
        if not (isinstance(content, Stored) and content.store is source.store):
            problems.append(f"{file.name} must be {_describe_making(file)}, but an import only copies files")
        elif f"/{content.path}".endswith(f"/{file.name}"):
            folders.setdefault(content.path.removesuffix(file.name).rstrip("/"), file.name)
        else:
            problems.append(f"{content.path} must be named {file.name}")
    if len(folders) > 1:
        places = ", ".join(f"{name} from {folder or '.'}/" for folder, name in sorted(folders.items()))
        problems.append(f"its files are in {len(folders)} folders ({places})")
    if problems:
        raise CheckpointError(
            f"{source.resolved} cannot be imported, because an import copies one folder as it is: "
            f"{'; '.join(problems[:_SHOWN])}. Either {UPLOAD_INSTEAD}, or put the finished checkpoint into its own "
            "folder and deploy that (-m s3://BUCKET/FOLDER)"
        )
    return next(iter(folders))
