"""What is to be done, decided from what the account already has; no request, no side effect."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.errors import ConflictError
from mlflow_fireworks.gateway.revisions import Deployment, Revision, model_id_of
from mlflow_fireworks.gateway.stamps import RevisionStamp
from mlflow_fireworks.gateway.wire import FAILED
from mlflow_fireworks.names import DeploymentName, check_name


class Action(str, Enum):
    """What a run does to the account."""

    NOTHING = "unchanged"
    RESUME = "resumed"
    CREATE = "created"
    UPDATE = "updated"
    RESTORE = "restored"


@dataclass(frozen=True)
class Plan:
    """One decision.

    Args:
        action: What is done.
        stamp: Deployment, revision, source and content of the model it is done to.
    """

    action: Action
    stamp: RevisionStamp

    @property
    def model_id(self) -> str:
        """The Fireworks model id."""
        return model_id_of(self.stamp.deployment, self.stamp.revision)


def plan_create(
    stamp: RevisionStamp, deployments: Mapping[DeploymentName, Deployment], asked: str, commands: Commands
) -> Plan:
    """Decide what `create` does: new, nothing, or go on with what was asked for last; going back is for `update`.

    Args:
        stamp: What is to be deployed, as revision 1.
        deployments: What the account has, by name.
        asked: The model URI as the user wrote it.
        commands: For the message about other content.

    Raises:
        ConflictError: The name is taken by other content or by a model that the plugin did not make.
    """
    existing = deployments.get(stamp.deployment)
    if existing is None:
        _refuse_foreign_id(stamp.deployment, deployments)
        return Plan(Action.CREATE, stamp)
    _refuse_unmanaged(existing, commands)
    same = _find_same((existing.current, existing.latest), stamp)
    if same:
        return _plan_same(existing, same, stamp)
    held = existing.current
    raise ConflictError(
        f"deployment '{existing.name}' already exists with different "
        f"content ({held.stamp.source if held.stamp else 'unknown source'}, {held.model.state}); "
        f"to make this its next revision: {commands.again(existing.name, asked, revision=existing.newest.number + 1)}"
    )


def plan_update(
    stamp: RevisionStamp, existing: Deployment, taken: set[str], commands: Commands, *, resend: bool = False
) -> Plan:
    """Decide what `update` with a model does.

    Nothing, go back to an earlier revision, go on with an unfinished one, or make the next one.

    Args:
        stamp: What is to be deployed.
        existing: The deployment as it is.
        taken: All model ids of the account.
        commands: For messages.
        resend: Content that FAILED becomes the next revision; else the newest one that did is looked at again, which
            quotes Fireworks' reason.

    Raises:
        ConflictError: The plugin did not make it.
    """
    _refuse_unmanaged(existing, commands)
    newest = existing.newest
    is_open = {
        item.number: item.model.state != FAILED or (item is newest and not resend) for item in existing.revisions
    }
    same = _find_same((item for item in existing.revisions if is_open[item.number]), stamp)
    if same:
        return _plan_same(existing, same, stamp)
    number = newest.number + 1
    while model_id_of(existing.name, number) in taken:
        number += 1
    check_name(model_id_of(existing.name, number))
    turn = existing.latest.turn + 1
    return Plan(Action.UPDATE, replace(stamp, revision=number, turn=None if number >= turn else turn))


def settle_conflict(plan: Plan, found: Revision) -> Plan:
    """What to do when create answers "already exists": the first try's reply was lost, or somebody was faster.

    Raises:
        ConflictError: The model that is there has other content.
    """
    if found.stamp is None or found.stamp.fingerprint != plan.stamp.fingerprint:
        raise ConflictError(f"{found.model.name} was just created by someone else; run the same command again")
    return Plan(Action.NOTHING if found.is_ready else plan.action, plan.stamp)


def _find_same(revisions: Iterable[Revision], stamp: RevisionStamp) -> Revision | None:
    """The revision with the same content: a READY one before an unfinished one, the one asked for last first."""
    same = [item for item in revisions if item.stamp and item.stamp.fingerprint == stamp.fingerprint]
    return max(same, key=lambda item: (item.is_ready, item.turn, item.number), default=None)


def _plan_same(existing: Deployment, same: Revision, stamp: RevisionStamp) -> Plan:
    action = Action.NOTHING if same is existing.current else Action.RESTORE
    return Plan(action if same.is_ready else Action.RESUME, replace(stamp, revision=same.number))


def _refuse_unmanaged(existing: Deployment, commands: Commands) -> None:
    if not existing.is_managed:
        raise ConflictError(
            f"a model '{existing.name}' exists that this plugin did not create; choose another name, or delete "
            "it with: " + commands.delete(existing.name, force="true")
        )


def _refuse_foreign_id(model_id: str, deployments: Mapping[DeploymentName, Deployment]) -> None:
    """A name like `chat-r2` may be free as a deployment and taken as a revision of `chat`."""
    for deployment in deployments.values():
        if any(revision.model.model_id == model_id for revision in deployment.revisions):
            raise ConflictError(
                f"'{model_id}' is already a revision of deployment '{deployment.name}'; choose another name"
            )
