"""Models of Fireworks' control plane: registered, uploaded or imported, validated, changed, deleted."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import SecretStr

from mlflow_fireworks.errors import ApiError, UnexpectedAnswerError
from mlflow_fireworks.gateway.collection import Collection
from mlflow_fireworks.gateway.operations import ImportSource, Operation, hide_secrets
from mlflow_fireworks.gateway.wire import Model, ModelPage, UploadUrls, Validation
from mlflow_fireworks.http import is_safe_url
from mlflow_fireworks.names import enumerate_names


class Models(Collection):
    """The models of one account."""

    kind = "models"

    def create(self, model_id: str, model: Mapping[str, Any]) -> Model:
        """Register a model; it then waits for its files in state UPLOADING.

        Args:
            model_id: Its id in the account.
            model: Fields of the Model resource, by their names on the wire.

        Raises:
            AlreadyExistsError: The id is taken, be it by this very call's lost first try.
        """
        body = {"modelId": model_id, "model": dict(model)}
        return self.transport.ask(Model, "POST", self.path, f"create {self.full_name(model_id)}", body)

    def find(self, model_id: str) -> Model | None:
        """A model by id or full name, or None when there is none."""
        return self.transport.find(Model, self.full_name(model_id))

    def list(self, account: str | None = None, *, matching: str = "") -> Iterator[Model]:
        """Models of an account, all of them or as `pages` gives them.

        Args:
            account: Another account, such as `fireworks` for the public catalogue; this one when None.
            matching: As for `pages`.
        """
        for page in self.pages(account, matching=matching):
            yield from page.models

    def pages(self, account: str | None = None, *, matching: str = "") -> Iterator[ModelPage]:
        """As `list`, page by page.

        Args:
            account: As for `list`.
            matching: Asks for those only whose id begins so. Whether Fireworks heeds that is not documented.
        """
        account = account or self.account
        query = {"filter": f'name="accounts/{account}/models/{matching}*"'} if matching else None
        path = f"/v1/accounts/{account}/models"
        return self.transport.pages(ModelPage, path, f"list the models of account {account}", query)

    def update(self, model_id: str, fields: Mapping[str, Any]) -> Model:
        """Change metadata of a model: only the given fields, by their names on the wire."""
        name = self.full_name(model_id)
        return self.transport.ask(Model, "PATCH", f"/v1/{name}", f"update {name}", dict(fields))

    def delete(self, model_id: str) -> None:
        """Delete a model; one that is already gone is fine.

        Raises:
            FailedPreconditionError: It is still deployed somewhere.
        """
        self.transport.delete(self.full_name(model_id))

    def sign_uploads(
        self, model_id: str, sizes: Mapping[str, int], *, resumable: bool = False
    ) -> Mapping[str, SecretStr]:
        """Signed URLs for files, always the complete set: each call replaces what the server expects.

        Args:
            model_id: The model they belong to.
            sizes: Every file's name and length in bytes.
            resumable: Ask for URLs that start a resumable session instead of taking a PUT.

        Raises:
            RefusedError: The API refused.
            UnexpectedAnswerError: A file got no URL, or one to which nothing may be sent.
        """
        name, host = self.full_name(model_id), self.transport.host
        body = {"filenameToSize": {file: str(size) for file, size in sizes.items()}, "enableResumableUpload": resumable}
        path, task = f"/v1/{name}:getUploadEndpoint", f"get upload URLs for {name}"
        answer = self.transport.ask(UploadUrls, "POST", path, task, body)
        urls = answer.filename_to_signed_urls
        if missing := sorted(set(sizes) - set(urls)):
            raise UnexpectedAnswerError(f"{host} returned no upload URL for {enumerate_names(missing, 3)} of {name}")
        giver = self.transport.hostname
        if unsafe := sorted(file for file in sizes if not is_safe_url(urls[file].get_secret_value(), giver)):
            raise UnexpectedAnswerError(
                f"the upload URL for {unsafe[0]} of {name} is not https, or contains a user name, or points to this "
                "machine or its network; nothing was sent"
            )
        return urls

    def validate(self, model_id: str, *, trust_remote_code: bool = False, skip_config: bool = False) -> Validation:
        """Ask Fireworks to check the uploaded files; its success is what makes the model READY.

        Raises:
            FailedPreconditionError: Files are still landing; ask again.
            InvalidRequestError: The files do not make a model; the server's reason is quoted.
        """
        name = self.full_name(model_id)
        params = {"trustRemoteCode": trust_remote_code, "skipHfConfigValidation": skip_config}
        return self.transport.ask(
            Validation,
            "GET",
            f"/v1/{name}:validateUpload",
            f"validate {name}",
            params={key: "true" for key, wanted in params.items() if wanted},
            # It reads the header of every file before it answers.
            timeout=self.transport.timeouts.for_work(),
        )

    def import_files(self, model_id: str, source: ImportSource) -> Operation:
        """Have Fireworks fetch a model's files itself.

        Args:
            model_id: A model in state UPLOADING.
            source: The folder that holds them. Its secrets travel in this call's body and are in no message.

        Returns:
            The operation to wait for.

        Raises:
            RefusedError: Fireworks does not want to; the text of its answer for an import that runs already is unknown.
        """
        name = self.full_name(model_id)
        try:
            return self.transport.ask(Operation, "POST", f"/v1/{name}:import", f"import {name}", source.to_wire())
        except ApiError as error:  # whatever the answer, it may quote the call
            raise error.without(lambda text: hide_secrets(text, source.secrets)) from None

    def find_operation(self, name: str) -> Operation | None:
        """How far an operation is, or None when Fireworks does not know it (any more).

        That an import's operation can be asked for at `/v1/{its name}` is inferred from Fireworks' other operations.
        """
        return self.transport.find(Operation, name)
