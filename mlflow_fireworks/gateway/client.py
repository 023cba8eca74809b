"""One account of Fireworks' control plane, over HTTP."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from mlflow.protos import databricks_pb2 as mlflow_codes
from pydantic import SecretStr, ValidationError
from typing_extensions import Self

from mlflow_fireworks.errors import ApiError, FailedPreconditionError, InvalidConfigError, UnavailableError
from mlflow_fireworks.gateway.operations import ImportSource, Operation, without_secrets
from mlflow_fireworks.gateway.wire import AccountPage, ErrorBody, Model, ModelPage, UploadUrls, Validation, Wire
from mlflow_fireworks.http import (
    TRANSIENT_STATUSES,
    Retry,
    Timeouts,
    TransientError,
    describe_failure,
    hide_queries,
    is_loopback,
    is_safe_url,
    is_transient,
    transient_status,
)

AnswerT = TypeVar("AnswerT", bound=Wire)

_PAGE_SIZE = 200
_FAILED_PRECONDITION = 9
_OK_BELOW = 300

_ERROR_CODES = {
    400: mlflow_codes.INVALID_PARAMETER_VALUE,
    401: mlflow_codes.UNAUTHENTICATED,
    402: mlflow_codes.PERMISSION_DENIED,
    403: mlflow_codes.PERMISSION_DENIED,
    404: mlflow_codes.RESOURCE_DOES_NOT_EXIST,
    408: mlflow_codes.DEADLINE_EXCEEDED,
    409: mlflow_codes.RESOURCE_ALREADY_EXISTS,
    412: mlflow_codes.PERMISSION_DENIED,
    429: mlflow_codes.REQUEST_LIMIT_EXCEEDED,
    501: mlflow_codes.NOT_IMPLEMENTED,
    502: mlflow_codes.TEMPORARILY_UNAVAILABLE,
    503: mlflow_codes.TEMPORARILY_UNAVAILABLE,
    504: mlflow_codes.TEMPORARILY_UNAVAILABLE,
}
_NEXT_STEPS = {
    401: "check FIREWORKS_API_KEY: it is missing a character, was revoked, or is for inference only",
    402: "add a payment method to the account",
    403: "this key has no permission here; check the account in the target (fireworks:/ACCOUNT) and the key's role",
    404: "it is not there, or not any more; check the name and the account in the target, then run the command again",
    412: "the account may be suspended; see its billing page (from an endpoint: an adapter may not have loaded)",
    429: "the account's request limit is used up; try again in a minute",
}
_NEXT_STEPS |= dict.fromkeys(
    TRANSIENT_STATUSES - set(_NEXT_STEPS), "it stayed so through all tries; run the same command again in a few minutes"
)
_USED_UP = "free some of it, choose another accelerator, or ask Fireworks for more"


class Gateway:
    """The control plane of one account.

    Args:
        base_url: Address of the API, without a trailing slash.
        api_key: Sent to that address only.
        account: Account id; asked of the API at first use when None.
        retry: How failures that may pass are tried again.
        timeouts: How long one request may hang.
        tell: Is told about retries.
        transport: For tests of this class without a server; a real connection when None.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr,
        account: str | None = None,
        *,
        retry: Retry | None = None,
        timeouts: Timeouts | None = None,
        tell: Callable[[str], None] = lambda text: None,  # noqa: ARG005 - silence is the default
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._account = account
        self._retry = retry or Retry()
        self._timeouts = timeouts or Timeouts()
        self._tell = tell
        self.host = urlsplit(base_url).netloc
        self.is_here = is_loopback(urlsplit(base_url).hostname or "")
        # Open to those who have rules of their own for answers: inference.
        self.http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {api_key.get_secret_value()}", "User-Agent": "mlflow-fireworks"},
            timeout=self._timeouts.for_a_call(),
            transport=transport,
            # A proxy from the environment has no business between two processes of one machine.
            trust_env=not self.is_here,
        )

    @property
    def account(self) -> str:
        """The account id.

        Source of the question: `GET /verifyApiKey` answers it in a header, as Fireworks' own client reads it; an API
        without that call lists the accounts of the key.

        Raises:
            ApiError: The key is not accepted.
            InvalidConfigError: The API does not say whose key it is, or names several accounts.
        """
        if self._account is None:
            self._account = self._ask_account()
        return self._account

    def _ask_account(self) -> str:
        try:
            response = self.send("GET", "/verifyApiKey", subject="the API key")
            found = [str(response.headers.get("x-fireworks-account-id", "")).strip()]
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            page = self.ask(AccountPage, "GET", "/v1/accounts", "the accounts of the key")
            found = [account.name.removeprefix("accounts/") for account in page.accounts]
        if len(found) == 1 and found[0]:
            return found[0]
        known = f" (it may use {', '.join(found)})" if len(found) > 1 else ""
        raise InvalidConfigError(
            f"{self.host} does not say which account the key belongs to{known}; "
            "write the target as fireworks:/ACCOUNT or set FIREWORKS_ACCOUNT_ID"
        )

    def resource_name(self, model_id: str) -> str:
        """`accounts/A/models/M` for a model id of this account; a full name is returned as it is."""
        return model_id if model_id.startswith("accounts/") else f"accounts/{self.account}/models/{model_id}"

    def create_model(self, model_id: str, model: Mapping[str, Any]) -> Model:
        """Register a model; it then waits for its files in state UPLOADING.

        Args:
            model_id: Its id in the account.
            model: Fields of the Model resource, by their names on the wire.

        Raises:
            ApiError: With status 409 when the id is taken, be it by this very call's lost first try.
        """
        return self.ask(
            Model,
            "POST",
            f"/v1/accounts/{self.account}/models",
            self.resource_name(model_id),
            {"modelId": model_id, "model": dict(model)},
        )

    def find_model(self, model_id: str) -> Model | None:
        """A model by id or full name, or None when there is none."""
        name = self.resource_name(model_id)
        try:
            return self.ask(Model, "GET", f"/v1/{name}", name)
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def list_models(self, account: str | None = None) -> Iterator[Model]:
        """All models of an account, page by page.

        Args:
            account: Another account, such as `fireworks` for the public catalogue; this one when None.
        """
        account = account or self.account
        token = ""
        while True:
            params = {"pageSize": str(_PAGE_SIZE)} | ({"pageToken": token} if token else {})
            page = self.ask(
                ModelPage, "GET", f"/v1/accounts/{account}/models", f"the models of account {account}", params=params
            )
            yield from page.models
            if not page.next_page_token or page.next_page_token == token:
                return
            token = page.next_page_token

    def update_model(self, model_id: str, fields: Mapping[str, Any]) -> Model:
        """Change metadata of a model: only the given fields, by their names on the wire."""
        name = self.resource_name(model_id)
        return self.ask(Model, "PATCH", f"/v1/{name}", name, dict(fields))

    def delete_model(self, model_id: str) -> None:
        """Delete a model; one that is already gone is fine.

        Raises:
            FailedPreconditionError: It is still deployed somewhere.
        """
        name = self.resource_name(model_id)
        try:
            self.send("DELETE", f"/v1/{name}", subject=name)
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise

    def upload_urls(
        self, model_id: str, sizes: Mapping[str, int], *, resumable: bool = False
    ) -> Mapping[str, SecretStr]:
        """Signed URLs for files, always the complete set: each call replaces what the server expects.

        Args:
            model_id: The model they belong to.
            sizes: Every file's name and length in bytes.
            resumable: Ask for URLs that start a resumable session instead of taking a PUT.

        Raises:
            ApiError: The API refused, or left a file without a URL.
        """
        name = self.resource_name(model_id)
        body = {"filenameToSize": {file: str(size) for file, size in sizes.items()}, "enableResumableUpload": resumable}
        urls = self.ask(UploadUrls, "POST", f"/v1/{name}:getUploadEndpoint", name, body).filename_to_signed_urls
        if missing := sorted(set(sizes) - set(urls)):
            raise ApiError(f"{self.host} gave no upload URL for {', '.join(missing[:3])} of {name}", status=200)
        if unsafe := sorted(file for file in sizes if not is_safe_url(urls[file].get_secret_value())):
            raise ApiError(f"the upload URL for {unsafe[0]} of {name} is not https; nothing was sent", status=200)
        return urls

    def validate_upload(
        self, model_id: str, *, trust_remote_code: bool = False, skip_config: bool = False
    ) -> Validation:
        """Ask Fireworks to check the uploaded files; its success is what makes the model READY.

        Raises:
            FailedPreconditionError: Files are still landing; ask again.
            ApiError: The files do not make a model; the server's reason is quoted.
        """
        name = self.resource_name(model_id)
        params = {"trustRemoteCode": trust_remote_code, "skipHfConfigValidation": skip_config}
        return self.ask(
            Validation,
            "GET",
            f"/v1/{name}:validateUpload",
            name,
            params={key: "true" for key, wanted in params.items() if wanted},
            # It reads the header of every file before it answers.
            timeout=self._timeouts.for_work(),
        )

    def import_model(self, model_id: str, source: ImportSource) -> Operation:
        """Have Fireworks fetch a model's files itself.

        Args:
            model_id: A model in state UPLOADING.
            source: The folder they lie in. Its secrets travel in this call's body and are in no message.

        Returns:
            The operation to wait for.

        Raises:
            ApiError: Fireworks does not want to; the text of its answer for an import that runs already is unknown.
        """
        name = self.resource_name(model_id)
        try:
            return self.ask(Operation, "POST", f"/v1/{name}:import", name, source.to_wire())
        except ApiError as error:
            raise without_secrets(error, source.secrets) from None

    def find_operation(self, name: str) -> Operation | None:
        """How far an operation is, or None when Fireworks does not know it (any more).

        That an import's operation can be asked for at `/v1/{its name}` is inferred from Fireworks' other operations.
        """
        try:
            return self.ask(Operation, "GET", f"/v1/{name}", name)
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def ask(
        self,
        answer: type[AnswerT],
        method: str,
        path: str,
        subject: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> AnswerT:
        """One call whose answer has a known shape; see `send`."""
        response = self.send(method, path, subject=subject, body=body, params=params, timeout=timeout)
        try:
            return answer.model_validate_json(response.content or b"{}")
        except ValidationError:
            raise ApiError(
                f"{self.host} answered {method} {subject} with something that is not a {answer.__name__}; "
                "is the target an address of Fireworks' API?",
                status=httpx.codes.BAD_GATEWAY,  # that is what it comes to: a success it is not
                server_message=hide_queries(response.text[:500]),
            ) from None

    def send(
        self,
        method: str,
        path: str,
        *,
        subject: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> httpx.Response:
        """One call, tried again while that may help.

        Args:
            method: HTTP method.
            path: Path below the API's address.
            subject: What it is about, for messages.
            body: Sent as JSON.
            params: Query parameters.
            timeout: Limits of one try.

        Returns:
            The answer, always a success.

        Raises:
            ApiError: Fireworks refused.
            UnavailableError: There was no answer.
        """
        response: httpx.Response | None = None

        def attempt() -> httpx.Response:
            nonlocal response
            response = None
            try:
                response = self.http.request(
                    method, path, json=body, params=params, timeout=timeout or self._timeouts.for_a_call()
                )
            except httpx.RequestError as error:
                if is_transient(error):
                    raise TransientError(f"{self.host}: {describe_failure(error)}") from error
                raise UnavailableError(f"cannot talk to {self.host}: {describe_failure(error)}") from None
            if (failure := transient_status(response)) and not _is_quota(response):
                raise TransientError(f"{self.host} answered {failure}", failure.retry_after)
            return response

        try:
            answered = self._retry.call(attempt, self._tell)
        except TransientError as error:
            if response is None:
                raise UnavailableError(
                    f"{error}, {self._retry.attempts} times; check the network, the proxy variables and the target, "
                    "then run the same command again"
                ) from None
            answered = response
        if answered.status_code >= _OK_BELOW:
            raise refusal(answered, method, subject, self.host)
        return answered


def _is_quota(response: httpx.Response) -> bool:
    """Whether a 429 is about how much the account may have, which no waiting changes.

    Seen: `global--h200-count for account A, in use: 14, quota: 16, requesting: 4`; its status was not recorded.
    """
    return response.status_code == httpx.codes.TOO_MANY_REQUESTS and "quota:" in response.text


def refusal(response: httpx.Response, method: str, subject: str, host: str) -> ApiError:
    """The error for an answer outside 2xx, with the server's own words.

    Bodies seen: `{"code":9,"details":[],"message":"cannot delete model with active deployments"}`; the samples of
    Fireworks' documentation look for the word FAILED_PRECONDITION instead of the number, so both count.
    """
    try:
        body = ErrorBody.model_validate_json(response.content)
    except ValidationError:
        body = ErrorBody(message=" ".join(response.text.split())[:300])
    message = body.message or response.reason_phrase or "no reason given"
    next_step = _USED_UP if _is_quota(response) else _NEXT_STEPS.get(response.status_code)
    text = f"{host} refused {method} {subject}: {message} ({response.status_code})" + (
        f"; {next_step}" * bool(next_step)
    )
    not_yet = response.status_code == httpx.codes.BAD_REQUEST and (
        body.code == _FAILED_PRECONDITION or "FAILED_PRECONDITION" in response.text
    )
    return (FailedPreconditionError if not_yet else ApiError)(
        text,
        status=response.status_code,
        api_code=body.code,
        server_message=message,
        request_id=response.headers.get("x-request-id"),
        error_code=_ERROR_CODES.get(response.status_code, mlflow_codes.INTERNAL_ERROR),
    )
