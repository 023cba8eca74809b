"""The files of a model on their way to storage, until validation has them all."""

from collections.abc import Mapping, Sequence
from functools import partial

from pydantic import SecretStr

from mlflow_fireworks.artifacts.content import fetched_ahead
from mlflow_fireworks.artifacts.known_hashes import find_changed
from mlflow_fireworks.artifacts.manifest import Manifest, ManifestFile
from mlflow_fireworks.artifacts.selection import DEFAULTS_FILE
from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import DeadlineError, InvalidRequestError, RefusedError, SourceError, TransferError
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.pipeline.plan import Action, Plan
from mlflow_fireworks.pipeline.steps import Step, begin
from mlflow_fireworks.pipeline.validation import SETTLING_SECONDS, names_file, send_again, validate, words_of
from mlflow_fireworks.progress import count_files, format_bytes
from mlflow_fireworks.run import Run
from mlflow_fireworks.transfer.engine import upload_files
from mlflow_fireworks.transfer.journal import Journal
from mlflow_fireworks.transfer.urls import SignedUrls

# How Fireworks offers resumable sessions is in no page of its documentation, so they are used by themselves only where
# sending a file again would cost much; virtual shards are smaller.
_RESUMABLE_ABOVE_BYTES = 8 * 1024**3
# How long an unfinished model is asked for its state when nothing more can be sent to it.
_UNSENT_SECONDS = 120.0
# "ALREADY_EXISTS" is documented for getUploadEndpoint, not when; 405 was seen of a dataset; 400 is code 9's.
_SIGNS_NO_MORE = (400, 405, 409)
# Between two rounds of sending what was forgotten: what is small may be named while it settles.
_PATIENCE_SECONDS = 30.0
_SHOWN = 5


class Shipment:
    """The files of one model on their way, until validation has them all.

    Args:
        run: The account and the options.
        plan: Which model.
        manifest: The files.
        journal: Knows what has landed.
    """

    def __init__(self, run: Run, plan: Plan, manifest: Manifest, journal: Journal) -> None:
        self._run = run
        self._plan = plan
        self._files = manifest.files
        self._states = manifest.states
        self._is_adapter = manifest.kind is Kind.ADDON
        self._journal = journal
        self._urls = SignedUrls(self._sign, run.waiter.clock, run.reporter.note)
        self._before_signing: set[str] = set()
        self._sent_again: set[str] = set()
        self._warnings: list[str] = []
        self._refusal: RefusedError | None = None

    @property
    def _sizes(self) -> dict[str, int]:
        return {file.name: file.size for file in self._files}

    def send(self) -> None:
        """Send what has not landed. Where Fireworks signs no URLs for a model that was begun earlier, nothing is sent.

        Raises:
            FireworksError: A file could not be sent; says how many are up.
        """
        run, journal = self._run, self._journal
        changed = journal.expect({file.name: file.content.version for file in self._files})
        if changed:
            run.reporter.note(
                f"{enumerate_names(changed, _SHOWN)} changed since the last run and will be uploaded again"
            )
        if run.config.resend:
            journal.drop(self._sizes)
        landed = journal.landed()
        missing = [file for file in self._files if landed.get(file.name) != file.size]
        self._before_signing = set(landed)
        if len(missing) < len(self._files):
            count = len(self._files) - len(missing)
            run.reporter.note(f"{count} of {len(self._files)} files were uploaded by an earlier run")
        if not missing:
            return
        begin(run.reporter, Step.PREPARE, f"sign {len(self._files)} upload URLs")
        try:
            self._urls.get(missing[0].name)
        except RefusedError as error:
            if self._leave_out_defaults(error):
                self.send()
                return
            if self._plan.action is not Action.RESUME or error.status not in _SIGNS_NO_MORE:
                raise
            self._refusal = error
            run.reporter.note(f"no new upload URLs ({error.message}); checking whether all files are there already")
            return
        self._transfer(missing)

    def refuse_changed(self) -> None:
        """End it where a file on this machine changed since it was read: what landed may be half of each.

        Raises:
            SourceError: Says which.
        """
        changed = find_changed(self._states)
        if not changed:
            return
        self._journal.drop(
            file.name for file in self._files if {str(source.here) for source in file.content.sources} & changed
        )
        raise SourceError(
            f"{enumerate_names(sorted(changed), _SHOWN)} changed while the model was uploaded, so nothing is "
            "validated; run the same command again to send it as it is now"
        )

    def validate(self) -> tuple[str, ...]:
        """As the function `validate`; files that Fireworks has forgotten since they landed are sent again.

        Whether it forgets them when URLs are signed again is not documented (for datasets the set is replaced). No file
        is sent again twice.
        """
        if self._refusal is not None:
            return self._validate_unsent(self._refusal)
        patience = SETTLING_SECONDS
        while True:
            try:
                warnings = validate(self._run, self._plan, check=partial(self._look_for_forgotten, patience))
            except InvalidRequestError as error:  # noqa: PERF203 - it waits for minutes
                if not self._leave_out_defaults(error):
                    raise
                self._urls = SignedUrls(self._sign, self._run.waiter.clock, self._run.reporter.note)
                self._urls.get(self._files[0].name)  # the complete set without it
            except _ForgottenError as forgotten:
                named = enumerate_names(forgotten.names, _SHOWN)
                self._run.reporter.note(f"Fireworks no longer has {named}; uploading them again")
                self._journal.drop(forgotten.names)
                self._sent_again |= set(forgotten.names)
                self._transfer([file for file in self._files if file.name in forgotten.names])
                patience = _PATIENCE_SECONDS
            else:
                return (*self._warnings, *warnings)

    def _leave_out_defaults(self, error: RefusedError) -> bool:
        """Go on without an adapter's `fireworks.json` where it is "unexpected", as a production client saw."""
        is_meant = self._is_adapter and DEFAULTS_FILE in self._sizes and "unexpected file" in words_of(error)
        if is_meant:
            self._files = tuple(file for file in self._files if file.name != DEFAULTS_FILE)
            self._warnings.append(
                f"Fireworks does not accept {DEFAULTS_FILE} for this adapter ({words_of(error)}); it is not uploaded, "
                "so the adapter's answers use the base model's defaults"
            )
            self._run.reporter.warn(self._warnings[-1])
        return is_meant

    def _validate_unsent(self, refusal: RefusedError) -> tuple[str, ...]:
        run, plan = self._run, self._plan
        answers = ["no answer"]
        try:
            return validate(
                run,
                plan,
                timeout=min(run.config.timeout, _UNSENT_SECONDS),
                check=lambda words, _: answers.append(words),
            )
        except DeadlineError:
            again = send_again(run.commands, plan.stamp)
            delete = (
                f"delete it with: {run.commands.delete(plan.stamp.deployment)}"
                if plan.stamp.revision == 1
                else f"delete {plan.model_id} in Fireworks' console"
            )
            raise TransferError(
                f"{run.gateway.models.full_name(plan.model_id)} is incomplete ({answers[-1]}), and Fireworks signs "
                f"no more upload URLs for it ({refusal.server_message}, {refusal.status}); the uploaded part is "
                f"kept; try again later, or {delete}; then upload everything with: {again}"
            ) from None

    def _look_for_forgotten(self, patience: float, words: str, waited: float) -> None:
        names = [name for name in self._before_signing - self._sent_again if names_file(words, name)]
        if names and waited >= patience:
            raise _ForgottenError(names)

    def _sign(self) -> Mapping[str, SecretStr]:
        self._before_signing |= set(self._journal.landed())
        return _sign(self._run, self._plan.model_id, self._sizes)

    def _transfer(self, files: Sequence[ManifestFile]) -> None:
        run = self._run
        size = format_bytes(sum(file.size for file in files))
        begin(run.reporter, Step.TRANSFER, f"upload {count_files(len(files))}, {size}")
        with fetched_ahead(file.content for file in files):
            upload_files(
                files,
                self._urls,
                self._journal,
                workers=run.config.max_workers,
                retry=run.retry,
                reporter=run.reporter,
                timeouts=run.timeouts,
                giver=run.gateway.transport.hostname,
                is_wanted=run.is_wanted,
            )


class _ForgottenError(Exception):
    """Validation misses files that had landed before URLs were signed again."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = names


def _sign(run: Run, model_id: str, sizes: Mapping[str, int]) -> Mapping[str, SecretStr]:
    """Signed URLs for all files; for resumable sessions if asked for, or worth it and offered."""
    if run.config.resumable == "true":
        return run.gateway.models.sign_uploads(model_id, sizes, resumable=True)
    if run.config.resumable == "auto" and max(sizes.values()) > _RESUMABLE_ABOVE_BYTES:
        try:
            return run.gateway.models.sign_uploads(model_id, sizes, resumable=True)
        except RefusedError as error:
            run.reporter.note(f"no resumable upload ({error.server_message}); uploading each file in a single request")
    return run.gateway.models.sign_uploads(model_id, sizes)
