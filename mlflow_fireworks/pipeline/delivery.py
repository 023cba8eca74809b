"""The four steps: create the model, sign upload URLs, upload (or have Fireworks import), validate until READY.

Each may be repeated: what is there is gone on with, and the journal knows which files have landed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import SecretStr

from mlflow_fireworks.artifacts.content import fetched_ahead
from mlflow_fireworks.artifacts.manifest import Manifest
from mlflow_fireworks.commands import Commands
from mlflow_fireworks.errors import (
    AlreadyExistsError,
    ApiError,
    BusyError,
    DeadlineError,
    FailedPreconditionError,
    FailedStateError,
    FireworksError,
    InvalidRequestError,
    RefusedError,
    TransferError,
    UnavailableError,
)
from mlflow_fireworks.gateway.operations import ImportSource
from mlflow_fireworks.gateway.revisions import Revision
from mlflow_fireworks.gateway.stamps import RevisionStamp
from mlflow_fireworks.gateway.wire import FAILED, READY, Model
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.pipeline.bucket_import import import_files
from mlflow_fireworks.pipeline.plan import Action, Plan, settle_conflict
from mlflow_fireworks.pipeline.steps import Step, begin
from mlflow_fireworks.progress import format_bytes, format_seconds
from mlflow_fireworks.run import Run
from mlflow_fireworks.transfer.engine import upload_files
from mlflow_fireworks.transfer.journal import Journal
from mlflow_fireworks.transfer.urls import SignedUrls
from mlflow_fireworks.waiting import Pending

# How Fireworks offers resumable sessions is in no page of its documentation, so they are used by themselves only where
# sending a file again would cost much; virtual shards are smaller.
_RESUMABLE_ABOVE_BYTES = 8 * 1024**3
_SHOWN = 5
# A client of Fireworks in production saw "config.json not found" right after a good upload, and asks again.
_SETTLING_SECONDS = 300.0
_MISSES_FILES = re.compile(r"not found|missing|no such|does not exist|not exist", re.IGNORECASE)


@dataclass(frozen=True)
class Cargo:
    """What is delivered.

    Args:
        body: The Model resource to create, by Fireworks' names.
        manifest: The files.
        origin: The bucket folder that Fireworks fetches them from itself, if it does.
    """

    body: Mapping[str, Any]
    manifest: Manifest
    origin: ImportSource | None


def deliver(run: Run, plan: Plan, cargo: Cargo) -> tuple[Plan, tuple[str, ...]]:
    """Run the four steps.

    Args:
        run: The account and the options.
        plan: What is to be done.
        cargo: What goes up.

    Returns:
        The plan (NOTHING when somebody was faster) and the warnings of Fireworks' validation.

    Raises:
        FireworksError: One line that says what happened and what to do.
    """
    name = run.gateway.models.full_name(plan.model_id)
    with open_journal(run, name) as journal:
        if plan.action is Action.RESUME:
            begin(run.reporter, Step.CREATE, f"{name} exists and waits for its files")
        else:
            begin(run.reporter, Step.CREATE, f"create {name} ({cargo.manifest.kind.value})")
            plan = _create_model(run, plan, cargo.body)
        model = run.gateway.models.find(plan.model_id)
        if plan.action is Action.NOTHING or model is None:
            return plan, ()
        journal.begin(plan.stamp.fingerprint, model.create_time)
        if cargo.origin is None:
            _send_files(run, plan, cargo.manifest, journal)
        elif not import_files(run, plan.model_id, cargo.origin, run.commands.finish(plan.stamp.deployment)):
            return plan, ()
        try:
            warnings = validate(run, plan)
        except FireworksError as error:
            # Only what the service names is sent again by the next run: a wrong guess must not cost the upload.
            named = [file.name for file in cargo.manifest.files if _names(error.message, file.name)]
            journal.drop(named)
            raise _with_next_step(run, plan, error, named) from None
        if run.config.synchronous:
            journal.forget()
        return plan, warnings


def open_journal(run: Run, model: str) -> Journal:
    """The journal of a model's upload, by the model's full resource name."""
    return Journal(run.state / "uploads", run.gateway.transport.host, model, run.reporter.warn)


def refuse_unsent(run: Run, model: Model, stamp: RevisionStamp) -> None:
    """Look whether the upload of a model was interrupted, before waiting for files that nobody sends.

    Args:
        run: The account and the options.
        model: A model that is not READY.
        stamp: What was to be uploaded.

    Raises:
        TransferError: Files are missing, as far as this machine knows; says how many and what sends them.
        ConflictError: They are being sent right now.
    """
    again = _send_again(run.commands, stamp)
    with open_journal(run, model.name) as journal:
        missing = journal.missing(stamp.fingerprint, model.create_time)
    if missing:
        count = "1 file was" if len(missing) == 1 else f"{len(missing)} files were"
        raise TransferError(
            f"the upload of {model.name} was interrupted: {count} not sent "
            f"({enumerate_names(missing, _SHOWN)}); send them with: {again}"
        )
    if missing is None:
        run.reporter.note(
            f"whether all files of {model.name} were sent is not known on this machine; if its upload was interrupted, "
            f"send the rest with: {again}"
        )


def validate(run: Run, plan: Plan) -> tuple[str, ...]:
    """Step 4: ask for validation until it succeeds, then look until the model is READY.

    With `synchronous=false` it is asked for once.

    Returns:
        The warnings of the validation.

    Raises:
        InvalidRequestError: The files do not make a model; Fireworks' reason is quoted.
        FailedStateError: It was asked for, and the model is FAILED.
        DeadlineError: It takes longer than the limit.
    """
    name, again = run.gateway.models.full_name(plan.model_id), run.commands.finish(plan.stamp.deployment)
    begin(run.reporter, Step.VALIDATE, f"validate {name}")
    settled = run.waiter.clock() + _SETTLING_SECONDS
    warnings: tuple[str, ...] | None = None

    def look() -> tuple[str, ...] | Pending:
        nonlocal warnings
        refusal: FireworksError | None = None
        try:
            if warnings is None:
                warnings = _ask_for_validation(run, plan.model_id)
        except (FailedPreconditionError, InvalidRequestError, BusyError, UnavailableError) as error:
            refusal = error
        model = run.gateway.models.find(plan.model_id)  # whatever the answer was: a success may have been lost
        if model and model.state == READY:
            return warnings or ()
        _raise_if_final(model, refusal, settling=run.waiter.clock() < settled)
        return Pending(f"not yet: {_words_of(refusal)}" if refusal else f"state {model.state if model else 'unknown'}")

    def give_up(reason: str) -> str:
        resend = replace(run.commands, options={**run.commands.options, "resend": "true"})
        limit = format_seconds(run.config.timeout)
        return (
            f"{name} is not READY after {limit} (last answer: {reason}); wait for it with: {again}, or send its files "
            "again with: " + _send_again(resend, plan.stamp)
        )

    if run.config.synchronous:
        return run.waiter.wait(look, run.config.timeout, give_up)
    found = look()
    if isinstance(found, Pending):
        run.reporter.note(f"validation was asked for ({found.reason}); finish with: {again}")
        return ()
    return found


def _raise_if_final(model: Model | None, refusal: FireworksError | None, *, settling: bool) -> None:
    """Raise what waiting does not change; a refusal that misses files may pass while they settle."""
    if model and model.state == FAILED:
        reason = model.status.message or "Fireworks gives no reason"
        raise FailedStateError(f"{model.name} is FAILED: {reason}; delete it and try again", server_message=reason)
    may_pass = settling and refusal is not None and _MISSES_FILES.search(_words_of(refusal))
    if isinstance(refusal, InvalidRequestError) and not may_pass:
        raise refusal


def _with_next_step(run: Run, plan: Plan, error: FireworksError, named: Sequence[str]) -> FireworksError:
    """A failed validation, with what becomes of the files and the command that goes on."""
    stamp = plan.stamp
    if isinstance(error, DeadlineError):
        return error  # it says both already
    if named:
        again = _send_again(run.commands, stamp)
        return error.reworded(f"{error.message}; {enumerate_names(named, _SHOWN)} will be sent again by: {again}")
    again = run.commands.finish(stamp.deployment)
    return error.reworded(f"{error.message}; what was sent is kept: validate it again with: {again}")


def _send_again(commands: Commands, stamp: RevisionStamp) -> str:
    return commands.again(stamp.deployment, stamp.model_uri or "MODEL_URI", revision=stamp.revision)


def _words_of(error: FireworksError) -> str:
    return error.server_message if isinstance(error, ApiError) and error.server_message else error.message


def _names(text: str, name: str) -> bool:
    """Whether a file's name stands in a text, and not only as a part of another one."""
    return re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/-]|\.\w)", text) is not None


def _create_model(run: Run, plan: Plan, body: Mapping[str, Any]) -> Plan:
    try:
        run.gateway.models.create(plan.model_id, body)
    except AlreadyExistsError:
        found = run.gateway.models.find(plan.model_id)
        if found is None:
            raise
        return settle_conflict(plan, Revision.of(found))
    return plan


def _send_files(run: Run, plan: Plan, manifest: Manifest, journal: Journal) -> None:
    journal.expect(file.name for file in manifest.files)
    if run.config.resend:
        journal.drop(file.name for file in manifest.files)
    landed = journal.landed()
    missing = [file for file in manifest.files if landed.get(file.name) != file.size]
    if len(missing) < len(manifest.files):
        count = len(manifest.files) - len(missing)
        run.reporter.note(f"{count} of {len(manifest.files)} files have landed in an earlier run")
    if not missing:
        return
    begin(run.reporter, Step.PREPARE, f"sign {len(manifest.files)} upload URLs")
    sizes = {file.name: file.size for file in manifest.files}
    urls = SignedUrls(lambda: _sign(run, plan.model_id, sizes), run.waiter.clock)
    urls.get(missing[0].name)
    size = format_bytes(sum(file.size for file in missing))
    begin(run.reporter, Step.TRANSFER, f"upload {len(missing)} files, {size}")
    with fetched_ahead(file.content for file in missing):
        upload_files(
            missing,
            urls,
            journal,
            workers=run.config.max_workers,
            retry=run.retry,
            reporter=run.reporter,
            timeouts=run.timeouts,
            is_wanted=run.is_wanted,
        )


def _sign(run: Run, model_id: str, sizes: Mapping[str, int]) -> Mapping[str, SecretStr]:
    """Signed URLs for all files; for resumable sessions if asked for, or worth it and offered."""
    if run.config.resumable == "true":
        return run.gateway.models.sign_uploads(model_id, sizes, resumable=True)
    if run.config.resumable == "auto" and max(sizes.values()) > _RESUMABLE_ABOVE_BYTES:
        try:
            return run.gateway.models.sign_uploads(model_id, sizes, resumable=True)
        except RefusedError as error:
            run.reporter.note(f"no resumable upload ({error.server_message}); sending each file in one piece")
    return run.gateway.models.sign_uploads(model_id, sizes)


def _ask_for_validation(run: Run, model_id: str) -> tuple[str, ...]:
    validation = run.gateway.models.validate(
        model_id,
        trust_remote_code=run.config.trust_remote_code,
        skip_config=run.config.skip_hf_config_validation,
    )
    for warning in validation.warnings:
        run.reporter.warn(f"Fireworks: {warning}")
    return validation.warnings
