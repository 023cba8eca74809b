"""What a run did, for people (a few lines) and for programs (a flat dict of plain values)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from mlflow_fireworks.artifacts.manifest import Manifest
from mlflow_fireworks.config import Kind
from mlflow_fireworks.gateway.revisions import Deployment, model_id_of
from mlflow_fireworks.gateway.stamps import UNKNOWN, RevisionStamp
from mlflow_fireworks.gateway.wire import Model, drop_unset
from mlflow_fireworks.pipeline.plan import Action
from mlflow_fireworks.progress import count_files, format_bytes
from mlflow_fireworks.registry.model_uri import version_in

_ABOUT_THE_URL = {"hugging_face_evidence", "hugging_face_confidence", "hugging_face_verified"}
_UNKNOWN_PRECISIONS = {"", "PRECISION_UNSPECIFIED"}


@dataclass(frozen=True)
class Outcome:
    """What a run did and what is there now.

    Args:
        action: created, resumed, updated, restored or unchanged.
        account: Fireworks account.
        stamp: Deployment, revision, source and content.
        model: The model as Fireworks describes it; None after a dry run of something new.
        manifest: What was looked at; None when no artifacts were.
        warnings: From the checkpoint and from Fireworks' validation.
        dry_run: Nothing was changed.
        changed: Options whose metadata was changed on a model that was there; after a dry run, would be.
    """

    action: Action
    account: str
    stamp: RevisionStamp
    model: Model | None
    manifest: Manifest | None
    warnings: tuple[str, ...] = ()
    dry_run: bool = False
    changed: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for MLflow's callers and `--json`."""
        result: dict[str, Any] = {
            "name": self.stamp.deployment,
            "flavor": self.stamp.flavor,
            "action": self.action.value,
            "account": self.account,
            "revision": self.stamp.revision,
            "version": version_in(self.stamp.source),
            "source": self.stamp.source,
            "content": self.stamp.fingerprint,
            "state": "DRY_RUN" if self.model is None else self.model.state,
            "dry_run": self.dry_run,
            "changed": list(self.changed),
        }
        if self.manifest is not None:
            result |= _describe_manifest(self.manifest)
        if self.model is not None:
            if self.manifest is not None and self.manifest.lineage.url != self.model.hugging_face_url:
                result = {key: value for key, value in result.items() if key not in _ABOUT_THE_URL}
            result |= describe_resource(self.model)  # what Fireworks holds, not what was planned
        return result | {"warnings": list(self.warnings)}


def describe_deployment(deployment: Deployment) -> dict[str, Any]:
    """A deployment as `list` and `get` show it: its current revision, and what else there is."""
    current, unfinished = deployment.current, deployment.unfinished
    stamp = current.stamp
    return {
        "name": deployment.name,
        "state": current.model.state,
        "revision": current.number,
        "version": version_in(stamp.source) if stamp else None,
        "flavor": stamp.flavor if stamp else UNKNOWN,
        "source": stamp.source if stamp else UNKNOWN,
        "content": stamp.fingerprint if stamp else UNKNOWN,
        "bytes": stamp.size if stamp else None,
        "managed": deployment.is_managed,
        **describe_resource(current.model),
        "revisions": [f"{revision.model.model_id}:{revision.model.state}" for revision in deployment.revisions],
        "pending": unfinished.model.model_id if unfinished else None,
    }


def describe_resource(model: Model) -> dict[str, Any]:
    """What Fireworks says about a model; `checkpoint_…` fields beside it are what its files say."""
    details = model.base_model_details
    return {
        "model": model.name,
        "kind": model.kind,
        "model_type": details.model_type or None,
        "parameter_count": details.parameter_count or None,
        "context_length": model.context_length or None,
        "precision": None if details.default_precision in _UNKNOWN_PRECISIONS else details.default_precision,
        "base_model": model.peft_details.base_model or None,
        "hugging_face_url": model.hugging_face_url or None,
        "status": model.status.describe(),
        "created": model.create_time or None,
        "updated": model.update_time or None,
    }


def describe_tags(outcome: Outcome) -> dict[str, str]:
    """The outcome as tags for the registry's model version; empty when there is no model.

    The state comes last, as they are written one by one: who waits for READY finds the rest.
    """
    if outcome.model is None:
        return {}
    return {
        "fireworks.model": outcome.model.name,
        "fireworks.deployment": outcome.stamp.deployment,
        "fireworks.revision": str(outcome.stamp.revision),
        "fireworks.hugging_face_url": outcome.model.hugging_face_url,
        "fireworks.updated": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "fireworks.state": outcome.model.state,
    }


def describe_plan(outcome: Outcome) -> str:
    """What a run that is not dry would do."""
    number = outcome.stamp.revision
    return {
        Action.NOTHING: "already up to date",
        Action.RESUME: f"would resume the upload of revision {number}",
        Action.CREATE: "would create it as revision 1",
        Action.UPDATE: f"would create it as revision {number}",
        Action.RESTORE: f"would make revision {number} current again",
    }[outcome.action]


def summary_lines(outcome: Outcome) -> Iterator[str]:
    """The last lines of a run: the state, what the model is, and where its Hugging Face URL came from."""
    facts = outcome.to_dict()
    where = facts.get("model") or model_id_of(outcome.stamp.deployment, outcome.stamp.revision)
    if outcome.dry_run:
        yield f"DRY RUN  {where}: {describe_plan(outcome)}; nothing was changed"
    else:
        version = f", created from version {facts['version']}" if facts["version"] else ""
        yield f"{facts['state']}  {where} ({outcome.action.value}, revision {outcome.stamp.revision}){version}"
    parameters = facts.get("parameter_count")
    about = [
        facts.get("kind"),
        facts.get("architecture") or facts.get("model_type"),
        f"{_format_count(parameters)} parameters" if parameters else None,
        _describe_side("checkpoint", facts.get("checkpoint_context_length"), facts.get("checkpoint_dtype")),
        _describe_side("Fireworks", facts.get("context_length"), facts.get("precision")),
        f"{count_files(facts['files'])}, {format_bytes(facts['bytes'])}" if "files" in facts else None,
    ]
    yield f"      {' · '.join(part for part in about if part)}"
    if outcome.changed:
        yield f"      {'would change' if outcome.dry_run else 'changed'}: {', '.join(outcome.changed)}"
    if outcome.manifest is not None and (line := _describe_url(outcome.manifest, outcome.model)):
        yield f"      {line}"


def _describe_url(manifest: Manifest, model: Model | None) -> str | None:
    """The Hugging Face URL that Fireworks holds, beside the one that was found here."""
    lineage = manifest.lineage
    held = model.hugging_face_url if model else lineage.url
    found = f"{lineage.url} (from {lineage.evidence}"
    if held and held == lineage.url:
        checked = {True: "verified on the Hub", False: "not on the Hub", None: "not verified"}[lineage.verified]
        return f"Hugging Face URL {found}, {checked})"
    if lineage.url:
        return (
            f"Hugging Face URL on Fireworks: {held or 'none'}; found here: {found}; set it with -C hugging_face_url=)"
        )
    if held:
        return f"Hugging Face URL {held} (as set on Fireworks; none was found here)"
    if manifest.kind is Kind.ADDON:
        return None
    return (
        "no Hugging Face URL was found, so Fireworks will not offer fine-tuning; "
        "set one with -C hugging_face_url=ORG/NAME"
    )


def _describe_side(side: str, context_length: int | None, number_format: str | None) -> str | None:
    """What one side says about a model: its files, or Fireworks once it has looked at them."""
    said = [f"context {context_length}" if context_length else None, number_format]
    text = ", ".join(part for part in said if part)
    return f"{side}: {text}" if text else None


def _format_count(count: int) -> str:
    for unit, size in (("B", 1_000_000_000), ("M", 1_000_000)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,}"


def _describe_manifest(manifest: Manifest) -> dict[str, Any]:
    facts, lineage = manifest.facts, manifest.lineage
    known: dict[str, Any] = {
        "kind": manifest.kind.value,
        "architecture": ", ".join(facts.architectures) or None,
        "model_type": facts.model_type,
        "parameter_count": facts.parameter_count,
        "checkpoint_context_length": facts.context_length,
        "checkpoint_dtype": facts.dtype,
        "hugging_face_url": lineage.url,
        "hugging_face_evidence": lineage.evidence,
        "hugging_face_confidence": lineage.confidence,
        "hugging_face_verified": lineage.verified,
        "files": len(manifest.files),
        "bytes": manifest.total_size,
    }
    return drop_unset(known)
