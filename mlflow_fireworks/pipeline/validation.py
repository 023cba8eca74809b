"""Validation: asked for until it succeeds, then the model is looked at until it is READY."""

import re
from collections.abc import Callable
from dataclasses import replace

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.errors import (
    ApiError,
    BusyError,
    FailedPreconditionError,
    FailedStateError,
    FireworksError,
    InvalidRequestError,
    UnavailableError,
)
from mlflow_fireworks.gateway.stamps import RevisionStamp
from mlflow_fireworks.gateway.wire import FAILED, READY, Model
from mlflow_fireworks.pipeline.plan import Plan
from mlflow_fireworks.pipeline.steps import Step, begin
from mlflow_fireworks.progress import format_seconds
from mlflow_fireworks.run import Run
from mlflow_fireworks.waiting import Pending

# A client of Fireworks in production saw "config.json not found" right after a good upload, and asks again.
SETTLING_SECONDS = 300.0
_MISSES_FILES = re.compile(r"not found|missing|no such|does not exist|not exist", re.IGNORECASE)


def validate(
    run: Run, plan: Plan, *, timeout: float | None = None, check: Callable[[str, float], None] = lambda *_: None
) -> tuple[str, ...]:
    """Step 4: ask for validation until it succeeds, then look until the model is READY.

    With `synchronous=false` it is asked for once.

    Args:
        run: The account and the options.
        plan: Which model.
        timeout: Longest wait in seconds, also with `synchronous=false`; that of the options when None.
        check: Is told each refusal that may pass, and for how many seconds there have been such; may raise.

    Returns:
        The warnings of the validation.

    Raises:
        InvalidRequestError: The files do not make a model; Fireworks' reason is quoted.
        FailedStateError: It was asked for, and the model is FAILED.
        DeadlineError: It takes longer than the limit.
    """
    name, again = run.gateway.models.full_name(plan.model_id), run.commands.finish(plan.stamp.deployment)
    begin(run.reporter, Step.VALIDATE, f"validate {name}")
    began = run.waiter.clock()
    limit_seconds = run.config.timeout if timeout is None else timeout
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
        waited = run.waiter.clock() - began
        if model and model.state == FAILED:
            raise describe_failure(run.commands, plan.stamp, model)
        _raise_if_final(refusal, settling=waited < SETTLING_SECONDS)
        if refusal:
            check(words_of(refusal), waited)
        return Pending(f"not yet: {words_of(refusal)}" if refusal else f"state {model.state if model else 'unknown'}")

    def give_up(reason: str) -> str:
        limit = format_seconds(limit_seconds)
        return (
            f"{name} is not READY after {limit} (last answer: {reason}); wait for it with: {again}, or upload its "
            "files again with: " + send_again(_resending(run.commands), plan.stamp)
        )

    if run.config.synchronous or timeout is not None:
        return run.waiter.wait(look, limit_seconds, give_up)
    found = look()
    if isinstance(found, Pending):
        run.reporter.note(f"validation was requested ({found.reason}); finish with: {again}")
        return ()
    return found


def describe_failure(commands: Commands, stamp: RevisionStamp, model: Model) -> FailedStateError:
    """What a model in state FAILED means to whoever wants it.

    Args:
        commands: For the message.
        stamp: Which revision it is.
        model: As Fireworks describes it.
    """
    reason = model.status.reason
    again = retry_as_next(commands, stamp)
    return FailedStateError(
        f"{model.name} is FAILED: {reason}; to retry it as the next revision: {again}", server_message=reason
    )


def retry_as_next(commands: Commands, stamp: RevisionStamp) -> str:
    """The command that sends a revision again, as the next one."""
    return send_again(_resending(commands), replace(stamp, revision=stamp.revision + 1))


def _raise_if_final(refusal: FireworksError | None, *, settling: bool) -> None:
    """Raise what waiting does not change; a refusal that misses files may pass while they settle."""
    may_pass = settling and refusal is not None and _MISSES_FILES.search(words_of(refusal))
    if isinstance(refusal, InvalidRequestError) and not may_pass:
        raise refusal


def send_again(commands: Commands, stamp: RevisionStamp) -> str:
    """The command that sends what is missing of a revision."""
    return commands.again(stamp.deployment, stamp.model_uri or "MODEL_URI", revision=stamp.revision)


def _resending(commands: Commands) -> Commands:
    return replace(commands, options={**commands.options, "resend": "true"})


def words_of(error: FireworksError) -> str:
    """What the service said; our own words where it said nothing."""
    return error.server_message if isinstance(error, ApiError) and error.server_message else error.message


def names_file(text: str, name: str) -> bool:
    """Whether a file's name stands in a text, and not only as a part of another one."""
    return re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/-]|\.\w)", text) is not None


def _ask_for_validation(run: Run, model_id: str) -> tuple[str, ...]:
    validation = run.gateway.models.validate(
        model_id,
        trust_remote_code=run.config.trust_remote_code,
        skip_config=run.config.skip_hf_config_validation,
    )
    for warning in validation.warnings:
        run.reporter.warn(f"Fireworks: {warning}")
    return validation.warnings
