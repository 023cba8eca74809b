"""The four steps: create the model, sign upload URLs, upload (or have Fireworks import), validate until READY.

Each may be repeated: what is there is gone on with, and the journal knows which files have landed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_fireworks.artifacts.manifest import Manifest
from mlflow_fireworks.errors import (
    AlreadyExistsError,
    DeadlineError,
    FailedStateError,
    FireworksError,
    TransferError,
)
from mlflow_fireworks.gateway.operations import ImportSource
from mlflow_fireworks.gateway.revisions import Revision
from mlflow_fireworks.gateway.stamps import RevisionStamp
from mlflow_fireworks.gateway.wire import Model
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.pipeline.bucket_import import import_files
from mlflow_fireworks.pipeline.plan import Action, Plan, settle_conflict
from mlflow_fireworks.pipeline.shipment import Shipment
from mlflow_fireworks.pipeline.steps import Step, begin
from mlflow_fireworks.pipeline.validation import names_file, send_again, validate
from mlflow_fireworks.run import Run
from mlflow_fireworks.transfer.journal import Journal

_SHOWN = 5


def deliver(
    run: Run, plan: Plan, body: Mapping[str, Any], manifest: Manifest, origin: ImportSource | None
) -> tuple[Plan, tuple[str, ...]]:
    """Run the four steps.

    Args:
        run: The account and the options.
        plan: What is to be done.
        body: The Model resource to create, by Fireworks' names.
        manifest: The files.
        origin: The bucket folder that Fireworks fetches them from itself, if it does.

    Returns:
        The plan (NOTHING when somebody was faster) and the warnings of Fireworks' validation.

    Raises:
        FireworksError: One line that says what happened and what to do.
    """
    name = run.gateway.models.full_name(plan.model_id)
    with open_journal(run, name) as journal:
        if plan.action is Action.RESUME:
            begin(run.reporter, Step.CREATE, f"{name} exists and is waiting for its files")
        else:
            begin(run.reporter, Step.CREATE, f"create {name} ({manifest.kind.value})")
            plan = _create_model(run, plan, body)
        model = run.gateway.models.find(plan.model_id)
        if plan.action is Action.NOTHING or model is None:
            return plan, ()
        journal.begin(plan.stamp.fingerprint, model.create_time)
        shipment = Shipment(run, plan, manifest, journal)
        if origin is None:
            shipment.send()
            shipment.refuse_changed()
        elif not import_files(run, plan.model_id, origin, run.commands.finish(plan.stamp.deployment)):
            return plan, ()
        try:
            warnings = shipment.validate() if origin is None else validate(run, plan)
        except FireworksError as error:
            # Only what the service names is sent again by the next run: a wrong guess must not cost the upload.
            named = [file.name for file in manifest.files if names_file(error.message, file.name)]
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
    again = send_again(run.commands, stamp)
    with open_journal(run, model.name) as journal:
        missing = journal.missing(stamp.fingerprint, model.create_time)
    if missing:
        count = "1 file was" if len(missing) == 1 else f"{len(missing)} files were"
        raise TransferError(
            f"the upload of {model.name} was interrupted: {count} not "
            f"uploaded ({enumerate_names(missing, _SHOWN)}); resume with: {again}"
        )
    if missing is None:
        run.reporter.note(
            f"this machine has no record of whether all files of {model.name} were uploaded; if the upload was "
            f"interrupted, resume with: {again}"
        )


def _with_next_step(run: Run, plan: Plan, error: FireworksError, named: Sequence[str]) -> FireworksError:
    """A failed validation, with what becomes of the files and the command that goes on."""
    stamp = plan.stamp
    if isinstance(error, DeadlineError | TransferError | FailedStateError):
        return error  # it says both already, or there is nothing to go on with
    if named:
        again = send_again(run.commands, stamp)
        files = enumerate_names(named, _SHOWN)
        # Nobody knows whether Fireworks keeps folders; where it does not, two files of one name are one.
        nested = " (if that fails the same way, Fireworks does not keep folders, and no upload helps)"
        hint = nested if any("/" in name for name in named) else ""
        return error.reworded(f"{error.message}; {files} will be uploaded again{hint} by: {again}")
    again = run.commands.finish(stamp.deployment)
    return error.reworded(f"{error.message}; the uploaded part is kept: validate it again with: {again}")


def _create_model(run: Run, plan: Plan, body: Mapping[str, Any]) -> Plan:
    try:
        run.gateway.models.create(plan.model_id, body)
    except AlreadyExistsError:
        found = run.gateway.models.find(plan.model_id)
        if found is None:
            raise
        return settle_conflict(plan, Revision.of(found))
    return plan
