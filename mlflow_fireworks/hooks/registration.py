"""Webhooks that lead to the receiver, made on the MLflow server and on the Hugging Face Hub, and tried at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import mlflow
from huggingface_hub import HfApi
from huggingface_hub import errors as hub_errors
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import SecretStr

from mlflow_fireworks.answers import EndlessAnswerError, ask
from mlflow_fireworks.commands import Commands
from mlflow_fireworks.connections import open_client
from mlflow_fireworks.errors import (
    CredentialsError,
    FireworksError,
    InvalidConfigError,
    UnavailableError,
    UnsupportedError,
)
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.templates import is_glob
from mlflow_fireworks.http import describe_failure, find_page, is_of_network
from mlflow_fireworks.in_between import IN_BETWEEN
from mlflow_fireworks.redaction import brief
from mlflow_fireworks.registry.hub_versions import explain, is_organization
from mlflow_fireworks.registry.mlflow_versions import explain_no_webhooks
from mlflow_fireworks.registry.questions import read_pages
from mlflow_fireworks.registry.reach import require_hub, require_mlflow

if TYPE_CHECKING:
    from mlflow.entities.webhook import Webhook, WebhookEventStr  # since MLflow 3.3

NAME = "mlflow-fireworks"
_SERVER_HINT = (
    "an MLflow server sends to public https addresses only, unless MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true "
    "and MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https are set for the server; for secrets it needs "
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
)
_COMPARING = f"`{Commands.start_worker()}` finds changes by comparing (--reconcile-every)"
_ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Registered:
    """A webhook that leads to the receiver.

    Args:
        place: Where it was made.
        id: Its id there.
        url: Where it leads.
        made: False when one with this address was there and was brought up to date.
        events: What it tells of.
    """

    place: str
    id: str
    url: str
    made: bool
    events: tuple[str, ...]


def register_on_mlflow(rules: Rules, base_url: str, secret: SecretStr) -> Registered:
    """Make the webhook on the MLflow server, or bring the one with this address up to date, and let the server test it.

    Args:
        rules: Say which events are needed.
        base_url: Address of the receiver as the MLflow server reaches it.
        secret: The receiver's.

    Raises:
        InvalidConfigError: MLFLOW_TRACKING_URI names no server, and only servers send webhooks; or the receiver's
            address is none.
        UnsupportedError: The server, or MLflow here, is too old for webhooks.
        UnavailableError: The server does not answer or refused it, or its test event was not accepted.
    """
    where = mlflow.get_tracking_uri()
    if not where.startswith(("http://", "https://")):
        raise InvalidConfigError(
            "only an MLflow server sends webhooks: set MLFLOW_TRACKING_URI to its http(s) address; without one, "
            + _COMPARING
        )
    require_mlflow(where)
    if reason := explain_missing_webhooks(where):
        raise UnsupportedError(reason)
    url = _address(base_url, "mlflow")
    events = needed_events(rules)
    client = MlflowClient()
    try:
        existing = next((item for item in list_webhooks(client) if item.url == url), None)
        text = secret.get_secret_value()
        if existing:
            webhook = client.update_webhook(existing.webhook_id, events=[*events], secret=text, status="ACTIVE")
        else:
            webhook = client.create_webhook(NAME, url, events=[*events], secret=text)
        tested = client.test_webhook(webhook.webhook_id)
    except MlflowException as error:
        raise UnavailableError(
            f"the MLflow server did not accept the webhook: {brief(error)}; {_SERVER_HINT}"
        ) from None
    if not tested.success:
        why = f"it answered {tested.response_status}" if tested.response_status else tested.error_message
        raise UnavailableError(
            f"the webhook {webhook.webhook_id} was created, but its test did not reach {url}: {why}; is the receiver "
            f"running there, with the same secret? ({_SERVER_HINT})"
        )
    return Registered(where, webhook.webhook_id, url, existing is None, tuple(events))


def explain_missing_webhooks(server: str) -> str:
    """Why no webhook comes from an MLflow server, and what does the work then; "" when there is no reason known.

    Args:
        server: MLflow's tracking URI.
    """
    reason = explain_no_webhooks(server) if server.startswith(("http://", "https://")) else ""
    return f"{reason}; without webhooks, {_COMPARING}" if reason else ""


def register_on_hub(rules: Rules, base_url: str, secret: SecretStr) -> Registered:
    """Make the webhook on the Hugging Face Hub, or bring the one with this address up to date.

    The Hub has no way to test a webhook. Instead an event that no rule is about is sent from here, with the secret.

    Args:
        rules: Say which repos are watched; a glob watches all repos of its owner.
        base_url: Address of the receiver as the Hub reaches it.
        secret: The receiver's.

    Raises:
        InvalidConfigError: The receiver's address is none.
        CredentialsError: There is no Hub token that may make webhooks.
        UnavailableError: The Hub or the receiver does not answer, or the receiver refuses the secret.
    """
    url = _address(base_url, "huggingface")
    _try_receiver(url, secret)
    require_hub()
    api = HfApi()
    try:
        watched = find_watched(rules, api)
        existing = next((item for item in api.list_webhooks() if item.url == url), None)
        text = secret.get_secret_value()
        if existing:
            made = api.update_webhook(existing.id, url=url, watched=watched, domains=["repo"], secret=text)
            if made.disabled:
                api.enable_webhook(made.id)
        else:
            made = api.create_webhook(url=url, watched=watched, domains=["repo"], secret=text)
    except Exception as error:  # noqa: BLE001 - huggingface_hub passes on what its HTTP client raises
        raise _explain_refusal(error) from None
    return Registered("Hugging Face Hub", made.id, url, existing is None, tuple(item["name"] for item in watched))


def find_watched(rules: Rules, api: HfApi) -> list[Any]:
    """What a webhook on the Hub has to watch for the rules, as `HfApi.create_webhook` takes it.

    Args:
        rules: The rules; a glob watches all repos of its owner.
        api: Asked whether such an owner is an organization or a user, for which the Hub has two words.

    Raises:
        HfHubHTTPError: The Hub does not answer that.
    """
    found = {}
    for pattern in (rule.hub for rule in rules if rule.hub):
        owner = pattern.partition("/")[0]
        if not is_glob(pattern):
            found[pattern] = {"type": "model", "name": pattern}
        elif owner not in found:
            found[owner] = {"type": "org" if is_organization(owner, api) else "user", "name": owner}
    return list(found.values())


def _explain_refusal(error: Exception) -> FireworksError:
    status = error.response.status_code if isinstance(error, hub_errors.HfHubHTTPError) else None
    if status == httpx.codes.UNAUTHORIZED:
        return CredentialsError("the Hugging Face Hub does not accept this token: set HF_TOKEN, or run `hf auth login`")
    if status == httpx.codes.FORBIDDEN:
        return CredentialsError(
            "the Hugging Face token has no permission to write webhooks; create one that has, and set HF_TOKEN"
        )
    return UnavailableError(f"the Hugging Face Hub did not accept the webhook: {explain(error)}")


def needed_events(rules: Rules) -> "list[WebhookEventStr]":
    """What a webhook of an MLflow server has to tell of."""
    wanted: dict[WebhookEventStr, bool] = {
        "model_version_alias.created": any(rule.alias for rule in rules),
        "model_version_alias.deleted": any(rule.alias and rule.when_removed != "keep" for rule in rules),
        "model_version_tag.set": any(rule.model and rule.tag for rule in rules),
        "model_version.created": any(rule.version for rule in rules),
    }
    return [event for event, needed in wanted.items() if needed]


def list_webhooks(client: MlflowClient) -> "Sequence[Webhook]":
    """All webhooks of a server."""
    return list(read_pages(lambda token: client.list_webhooks(page_token=token)))


def _address(base_url: str, sender: str) -> str:
    try:
        parts = httpx.URL(base_url)
    except httpx.InvalidURL:
        parts = httpx.URL()
    if parts.scheme not in ("http", "https") or not parts.host or parts.query or parts.fragment or parts.userinfo:
        raise InvalidConfigError("--url is the address of the receiver, without a user name or query: https://HOST")
    return f"{base_url.rstrip('/')}/webhooks/{sender}"


def _try_receiver(url: str, secret: SecretStr) -> None:
    probe = {"event": {"action": "update", "scope": "repo.config"}, "repo": {"type": "model", "name": "example/none"}}
    headers = {"X-Webhook-Secret": secret.get_secret_value()}
    try:
        with open_client(timeout=_ANSWER_SECONDS) as http:
            answer = ask(http, "POST", url, json=probe, headers=headers, seconds=3 * _ANSWER_SECONDS)
    except (httpx.RequestError, EndlessAnswerError) as error:
        reason = describe_failure(error) if isinstance(error, httpx.RequestError) else error
        raise UnavailableError(f"{url} does not answer ({reason}); is the receiver running?") from None
    if (page := find_page(answer)) is not None or is_of_network(answer):
        raise UnavailableError(
            f"{url} answered a test with {answer.status_code}{f' and “{page}”' if page else ''}: {IN_BETWEEN}"
        )
    if answer.status_code != httpx.codes.OK or '"ignored"' not in answer.text:
        raise UnavailableError(
            f"{url} answered {answer.status_code} to a test event; is it this receiver, with the same secret?"
        )
