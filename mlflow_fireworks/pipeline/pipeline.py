"""A model's way to READY: plan, then Fireworks' four steps.

::

    model URI ─► Source ─► Manifest ─► Plan ─► 1 create ─► 2 sign ─► 3 upload ─► 4 validate until READY ─► Outcome
                                                   └─► 2 import ─► 3 wait ─┘

Everything that can be wrong with the model is found before step 1. Every step may be repeated: running the same
command again goes on where the last run stopped.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from mlflow_fireworks.artifacts.known_hashes import KnownHashes
from mlflow_fireworks.artifacts.manifest import Manifest, build_manifest
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import (
    ConflictError,
    FailedPreconditionError,
    InvalidConfigError,
    NotFoundError,
    SourceError,
)
from mlflow_fireworks.file_errors import describe
from mlflow_fireworks.gateway.catalogue import find_base_model
from mlflow_fireworks.gateway.operations import ImportSource
from mlflow_fireworks.gateway.revisions import Deployment, Revision, group_deployments
from mlflow_fireworks.gateway.stamps import UNKNOWN, Hand, RevisionStamp, text_of
from mlflow_fireworks.gateway.wire import READY, UPLOADING, Model
from mlflow_fireworks.names import DeploymentName, check_name, did_you_mean, enumerate_names
from mlflow_fireworks.pipeline.bucket import find_origin
from mlflow_fireworks.pipeline.bucket_import import find_folder
from mlflow_fireworks.pipeline.delivery import deliver, open_journal, refuse_unsent
from mlflow_fireworks.pipeline.model_fields import describe_model, find_changes, find_differences, refuse_immutable
from mlflow_fireworks.pipeline.outcome import Outcome, describe_tags, summary_lines
from mlflow_fireworks.pipeline.plan import Action, Plan, plan_create, plan_update
from mlflow_fireworks.pipeline.validation import validate
from mlflow_fireworks.registry.versions import NOT_TAKEN_OFF, write_outcome
from mlflow_fireworks.run import Run
from mlflow_fireworks.waiting import Pending

# Public clients of Fireworks try again for up to 50 seconds.
_GOODBYE_LAG_SECONDS = 60.0


@dataclass(frozen=True)
class Pipeline:
    """Brings deployments of one account to READY, changes and removes them.

    Args:
        run: The account, the options, and who is told.
    """

    run: Run

    def create(self, name: DeploymentName, model_uri: str, flavor: str | None = None) -> Outcome:
        """Bring a model to READY under a new name; the same content again is no conflict.

        Args:
            name: The deployment, and the id of its first model.
            model_uri: Anything MLflow can name, or `hf:/org/name[@revision]`.
            flavor: The MLflow flavor the model is expected to have; not checked when None.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        check_name(name)
        deployments = self._look_up(name)  # first, because a wrong key should not cost an hour of hashing
        with self._prepared(model_uri, flavor) as (source, manifest, origin):
            plan = plan_create(_stamp(name, source, manifest), deployments, source.asked, self.run.commands)
            self._refuse_immutable(plan, deployments.get(name))
            return self._carry_out(plan, source, manifest, origin)

    def update(
        self, name: DeploymentName, model_uri: str, flavor: str | None = None, *, by_hand: bool = False
    ) -> Outcome:
        """Make content the current revision of a deployment: the next one, or the one that has it already.

        The models of all other revisions stay as they are.

        Args:
            name: An existing deployment.
            model_uri: As for create.
            flavor: As for create.
            by_hand: Whether a person asks for it, and no pointer: hooks then leave it as it is.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        deployments = self._look_up(name)
        existing = self._pick(name, deployments)
        taken = {revision.model.model_id for entry in deployments.values() for revision in entry.revisions}
        with self._prepared(model_uri, flavor) as (source, manifest, origin):
            stamp, resend = _stamp(name, source, manifest), self.run.config.resend
            plan = plan_update(stamp, existing, taken, self.run.commands, resend=resend)
            if by_hand:
                plan = self._sign(plan, existing.current)
            self._refuse_immutable(plan, existing)
            if plan.action in {Action.RESUME, Action.RESTORE} and not self.run.config.dry_run:
                self._ask_for_last(plan)
            return self._carry_out(plan, source, manifest, origin)

    def finish(self, name: DeploymentName) -> Outcome:
        """Finish a revision whose bytes are up, and change the metadata that the options name.

        Args:
            name: An existing deployment.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        existing = self.deployment(name)
        revision = existing.latest if existing.latest.model.state == UPLOADING else existing.current
        stamp = revision.stamp or RevisionStamp(name, 1, UNKNOWN, UNKNOWN, "0")
        refuse_immutable(self.run.config, revision.model)
        action = Action.NOTHING
        warnings: tuple[str, ...] = ()
        if not self.run.config.dry_run and not revision.is_ready:
            if revision.stamp:
                refuse_unsent(self.run, revision.model, revision.stamp)
            warnings = validate(self.run, Plan(Action.RESUME, stamp))
            action = Action.RESUME
        model = self.run.gateway.models.find(revision.model.model_id) or revision.model
        outcome = self._make_outcome(Plan(action, stamp), model, None, warnings)
        self._conclude(outcome)
        return outcome

    def delete(self, name: DeploymentName) -> bool:
        """Delete all revisions of a deployment; False when there was nothing to delete.

        Raises:
            ConflictError: The plugin did not make it, and `force` is not set.
        """
        existing = self.find(name)
        if existing is None:
            self.run.reporter.note(
                f"there is no deployment '{name}' on account {self.run.gateway.account}; nothing to delete"
            )
            return False
        if not (existing.is_managed or self.run.config.force):
            raise ConflictError(
                f"'{name}' was not created by this plugin; to delete it anyway: "
                + self.run.commands.delete(name, force="true")
            )
        for revision in existing.revisions:
            self._delete_model(revision.model.name)
            open_journal(self.run, revision.model.name).discard()
            self.run.reporter.note(f"deleted {revision.model.name}")
        return True

    def _delete_model(self, name: str) -> None:
        """Delete a model; for some seconds after its last endpoint went, Fireworks says that it still serves."""

        def attempt() -> bool | Pending:
            try:
                self.run.gateway.models.delete(name)
            except FailedPreconditionError as error:
                return Pending(f"{name} still serves ({error.server_message})")
            return True

        self.run.waiter.wait(
            attempt,
            _GOODBYE_LAG_SECONDS,
            lambda reason: (
                f"{reason}; take down what serves it ({self.run.commands.list_endpoints()}), then run the same "
                "command again"
            ),
        )

    def deployments(self) -> dict[DeploymentName, Deployment]:
        """Everything on the account, by name."""
        return group_deployments(self.run.gateway.models.list())

    def deployment(self, name: DeploymentName) -> Deployment:
        """One deployment.

        Raises:
            NotFoundError: There is none of that name.
            InvalidConfigError: There cannot be one.
        """
        return self._pick(name, self._look_up(name))

    def find(self, name: DeploymentName) -> Deployment | None:
        """One deployment, or None when there is none of that name."""
        return self._look_up(name).get(name)

    def _look_up(self, name: DeploymentName) -> dict[DeploymentName, Deployment]:
        """A deployment with all its revisions; there may be others, and not all of theirs."""
        return group_deployments(self.run.gateway.lookup.find(name))

    def _pick(self, name: DeploymentName, deployments: Mapping[DeploymentName, Deployment]) -> Deployment:
        if name not in deployments:
            check_name(name)  # nothing could be created by another one
            next_step = did_you_mean(name, deployments) or (
                f"create it with: {self.run.commands.create(name, 'MODEL_URI')}"
            )
            raise NotFoundError(f"there is no deployment '{name}' on account {self.run.gateway.account}; {next_step}")
        return deployments[name]

    @contextmanager
    def _prepared(self, model_uri: str, flavor: str | None) -> Iterator[tuple[Source, Manifest, ImportSource | None]]:
        """Everything that is found out before Fireworks is asked to change anything."""
        config = self.run.config
        source = open_source(
            model_uri, reporter=self.run.reporter, max_disk=config.max_disk, relay=config.relay == "auto"
        )
        with closing(source.store):
            _check_flavor(flavor, source)
            if source.resolved != model_uri:
                self.run.reporter.note(f"{source.asked} is {source.resolved}")
            origin = find_origin(source, self.run.config, api_is_here=self.run.gateway.transport.is_here)
            try:
                manifest = build_manifest(
                    source,
                    self.run.config,
                    self.run.reporter,
                    hashes=KnownHashes(self.run.state / "hashes.sqlite"),
                    is_wanted=self.run.is_wanted,
                )
            except OSError as error:
                raise SourceError(f"cannot read {error.filename or source.resolved}: {describe(error)}") from None
            for note in manifest.notes:
                self.run.reporter.note(note)
            for warning in manifest.warnings:
                self.run.reporter.warn(warning)
            yield source, manifest, origin and find_folder(source, manifest, origin, self.run.reporter)

    def _carry_out(self, plan: Plan, source: Source, manifest: Manifest, origin: ImportSource | None) -> Outcome:
        body = describe_model(manifest, self.run.config, plan.stamp, self._base_model(manifest))
        warnings: tuple[str, ...] = ()
        if plan.action not in {Action.NOTHING, Action.RESTORE} and not self.run.config.dry_run:
            try:
                plan, warnings = deliver(self.run, plan, body, manifest, origin)
            except KeyboardInterrupt:
                again = self.run.commands.again(plan.stamp.deployment, source.asked, revision=plan.stamp.revision)
                self.run.reporter.warn(f"interrupted; resume with: {again}")
                raise
        model = self.run.gateway.models.find(plan.model_id)
        if model is None and not self.run.config.dry_run:
            raise self._deleted_meanwhile(plan)
        if model and model.state == READY and plan.action not in {Action.NOTHING, Action.RESTORE}:
            differences = find_differences(manifest, model)
            for difference in differences:
                self.run.reporter.warn(difference)
            warnings = (*warnings, *differences)
        outcome = self._make_outcome(plan, model, manifest, (*manifest.warnings, *warnings))
        self._write_back(source, outcome)
        self._conclude(outcome)
        return outcome

    def _deleted_meanwhile(self, plan: Plan) -> NotFoundError:
        name = self.run.gateway.models.full_name(plan.model_id)
        return NotFoundError(f"{name} was deleted while it was being deployed")

    def _make_outcome(
        self, plan: Plan, model: Model | None, manifest: Manifest | None, warnings: tuple[str, ...]
    ) -> Outcome:
        """What is there now, once the metadata that the options ask for is changed, too."""
        changes = find_changes(self.run.config, model) if model else ()
        if changes and model and not self.run.config.dry_run:
            self.run.gateway.models.update(model.model_id, {change.field: change.value for change in changes})
            model = self.run.gateway.models.find(model.model_id) or model  # what it says now, not what was asked
            ignored = [change.option for change in find_changes(self.run.config, model)]
            if ignored:
                self.run.reporter.warn(f"Fireworks did not change {enumerate_names(ignored)} of {model.name}")
            changes = tuple(change for change in changes if change.option not in ignored)
        return Outcome(
            Action.UPDATE if changes and plan.action is Action.NOTHING else plan.action,
            self.run.gateway.account,
            (RevisionStamp.read(model.description) if model else None) or plan.stamp,
            model,
            manifest,
            warnings,
            self.run.config.dry_run,
            tuple(change.option for change in changes),
        )

    def _refuse_immutable(self, plan: Plan, existing: Deployment | None) -> None:
        for revision in existing.revisions if existing else ():
            if revision.model.model_id == plan.model_id:
                refuse_immutable(self.run.config, revision.model)

    def _ask_for_last(self, plan: Plan) -> None:
        """Make a revision that is there the one asked for last, so that it is the current one as soon as it is READY.

        This comes before its upload goes on, so that whoever finishes it, here or with `finish`, has no more to do.

        Raises:
            NotFoundError: It was deleted meanwhile.
        """
        existing = self.deployment(plan.stamp.deployment)  # as it is now: reading the content may have taken an hour
        found = next((item for item in existing.revisions if item.model.model_id == plan.model_id), None)
        if found is None or found.stamp is None:
            raise self._deleted_meanwhile(plan)
        is_last = found is existing.latest
        stamp = found.stamp if is_last else found.stamp.asked_for_again(existing.latest.turn + 1)
        stamp = replace(stamp, instead=plan.stamp.instead)
        if stamp != found.stamp:
            description = stamp.describe(text_of(found.model.description))
            self.run.gateway.models.update(plan.model_id, {"description": description})

    def _sign(self, plan: Plan, current: Revision) -> Plan:
        """Let the stamp of what becomes current say that a person put it there, from the moment that it is."""
        what = f"revision {current.number} was replaced by revision {plan.stamp.revision}"
        return replace(plan, stamp=replace(plan.stamp, instead=self.run.done_by_hand(Hand.REPLACEMENT, what)))

    def _base_model(self, manifest: Manifest) -> str | None:
        if manifest.kind is not Kind.ADDON:
            return None
        repo = manifest.adapter.base_repo if manifest.adapter else None
        found = find_base_model(self.run.gateway.models, self.run.config.base_model, repo, self.run.reporter.warn)
        self.run.reporter.note(f"the adapter belongs to {found.name}")
        return found.name

    def _write_back(self, source: Source, outcome: Outcome) -> None:
        if outcome.dry_run or outcome.model is None or source.registered is None or not self.run.config.registry_tags:
            return
        if warning := write_outcome(source.registered, {**NOT_TAKEN_OFF, **describe_tags(outcome)}):
            self.run.reporter.warn(warning)

    def _conclude(self, outcome: Outcome) -> None:
        """Tell how it ended, and remove the journal of an earlier run that did not live to see it."""
        if outcome.model is not None and outcome.model.state == READY:
            open_journal(self.run, outcome.model.name).discard()
        for line in summary_lines(outcome):
            self.run.reporter.note(line)


def _stamp(name: DeploymentName, source: Source, manifest: Manifest) -> RevisionStamp:
    return RevisionStamp(
        name,
        1,
        source.resolved,
        manifest.flavor,
        manifest.fingerprint,
        manifest.total_size,
        vector_length=manifest.facts.vector_length,
    )


def _check_flavor(flavor: str | None, source: Source) -> None:
    flavors = source.mlmodel.get("flavors")
    if flavor and isinstance(flavors, Mapping) and flavor not in flavors:
        raise InvalidConfigError(
            f"{source.resolved} has no flavor '{flavor}'; it has {enumerate_names(flavors)} (-f can be omitted)"
        )
