"""The shapes of Fireworks' control plane that this plugin relies on, each field once.

Source of all of them: the OpenAPI description of Fireworks' Gateway API (2026-09) and the official SDK
`fireworks-ai` 1.2. Reading is tolerant: unknown fields and states are kept out of the way, `null` means
unset, and int64 may be a number or text.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic.alias_generators import to_camel

T = TypeVar("T")

READY = "READY"
UPLOADING = "UPLOADING"
# In no schema, but Fireworks' own notebook and one page of the documentation look for it.
FAILED = "FAILED"


class Wire(BaseModel):
    """Base of all answers: camelCase names, `null` read as unset, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        protected_namespaces=(),  # before 2.10 pydantic warns of every field that begins with `model_`
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, Mapping) else data


class Page(Wire):
    """One page of a list."""

    next_page_token: str = ""


class Status(Wire):
    """Detail of a resource's last failed operation; `OK` when fine."""

    code: str = "OK"
    message: str = ""

    @property
    def reason(self) -> str:
        """Why it failed, for a message."""
        return self.message or "Fireworks gives no reason"

    def describe(self) -> str:
        """Code and message in one line; empty where there is neither."""
        return f"{self.code} {self.message}".strip()


class BaseModelDetails(Wire):
    """What validation found out about a base model."""

    model_type: str = ""
    parameter_count: int = 0
    default_precision: str = "PRECISION_UNSPECIFIED"
    moe: bool = False
    world_size: int = 0


class PeftDetails(Wire):
    """What an addon says about itself."""

    base_model: str = ""
    r: int = 0
    target_modules: tuple[str, ...] = ()


class Model(Wire):
    """A model resource."""

    name: str
    display_name: str = ""
    description: str = ""
    create_time: str = ""
    update_time: str = ""
    state: str = "STATE_UNSPECIFIED"
    status: Status = Status()
    kind: str = ""
    hugging_face_url: str = ""
    github_url: str = ""
    public: bool = False
    context_length: int = 0
    supports_tools: bool = False
    supports_image_input: bool = False
    base_model_details: BaseModelDetails = BaseModelDetails()
    peft_details: PeftDetails = PeftDetails()
    supports_lora: bool = False
    supervised_lora_tunable: bool = False
    supervised_full_parameter_tunable: bool = False
    rl_lora_tunable: bool = False
    rl_full_parameter_tunable: bool = False

    @property
    def model_id(self) -> str:
        """The last part of the resource name."""
        return self.name.rpartition("/")[2]


class Account(Wire):
    """An account resource, `accounts/ID`.

    `suspend_state` is `UNSUSPENDED`, or why it is not: `FAILED_PAYMENTS`, `CREDIT_DEPLETED`, … (official SDK 1.2).
    """

    name: str
    suspend_state: str = ""

    @property
    def is_suspended(self) -> bool:
        """Whether Fireworks says so; one that says nothing is taken to be active."""
        return self.suspend_state not in ("", "UNSUSPENDED", "SUSPEND_STATE_UNSPECIFIED")


class Quota(Wire):
    """How much of something an account may use, `accounts/ID/quotas/global--h100-count`, and how much it does."""

    name: str
    value: float = 0
    usage: float = 0

    @property
    def is_used_up(self) -> bool:
        """Whether there is some, and none of it is left."""
        return 0 < self.value <= self.usage

    def describe(self) -> str:
        """For people: `global--h100-count (8 of 8)`."""
        return f"{self.name.rpartition('/')[2]} ({self.usage:g} of {self.value:g})"


class QuotaPage(Page):
    """One page of a list."""

    quotas: tuple[Quota, ...] = ()


class AccountPage(Page):
    """The accounts that a key may use."""

    accounts: tuple[Account, ...] = ()


class ModelPage(Page):
    """One page of a list."""

    models: tuple[Model, ...] = ()


class UploadUrls(Wire):
    """One signed URL for each file. A signed URL is a credential: whoever has it can write that file."""

    filename_to_signed_urls: dict[str, SecretStr] = Field(default_factory=dict)


class Validation(Wire):
    """Answer of validateUpload. Servers before 2026 answered `{}`."""

    warnings: tuple[str, ...] = ()


class ErrorBody(Wire):
    """Error body of the control plane: gRPC code as a number, no textual status name."""

    code: int | None = None
    message: str = ""

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, data: Any) -> Any:
        """Accept `{"error": {…}}`, as gateways in front of the API answer."""
        inner = data.get("error") if isinstance(data, Mapping) else None
        if isinstance(inner, Mapping):
            data = inner
        elif isinstance(inner, str):
            data = {"message": inner}
        if isinstance(data, Mapping) and not isinstance(data.get("code"), int):
            return {**data, "code": None}
        return data


def drop_unset(fields: Mapping[str, T | None]) -> dict[str, T]:
    """The fields that are set, for a body: an unset one is not sent."""
    return {name: value for name, value in fields.items() if value is not None}
