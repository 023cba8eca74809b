"""Contract: the official SDK drives the emulator, and its types know every field that comes back."""

import asyncio
import typing

import fireworks
import httpx
import pydantic
import pytest
from emulator.raw_client import ADDON, OCTETS, adapter_files, base_files
from fireworks import AsyncFireworks, Fireworks

from mlflow_fireworks.emulator.protocol import messages, serving_messages
from mlflow_fireworks.emulator.protocol.fields import Message

BASE = {"kind": "HF_BASE_MODEL", "base_model_details": {"checkpoint_format": "HUGGINGFACE", "world_size": 1}}


@pytest.fixture
def sdk(emulator):
    with Fireworks(base_url=emulator.url, api_key="a-key", account_id="acme", max_retries=0) as client:
        yield client


def aliases(type_):
    return {field.alias or name: field for name, field in type_.model_fields.items()}


def nested(annotation):
    """The SDK's model type inside an annotation such as Optional[List[X]], if any."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := nested(part))), None)


def literals(annotation):
    if typing.get_origin(annotation) is typing.Literal:
        return set(typing.get_args(annotation))
    return set().union(*(literals(part) for part in typing.get_args(annotation)))


def differences(message: Message, type_) -> list[str]:
    """Where our table and the SDK's type disagree; fields marked newer are known to be missing there."""
    ours = {name for name, spec in message.fields.items() if not spec.newer}
    theirs = aliases(type_)
    found = [f"{message.name}.{name} is not in the SDK" for name in sorted(ours - set(theirs))]
    found += [f"{message.name}.{name} is new in the SDK" for name in sorted(set(theirs) - set(message.fields))]
    for name in sorted(ours & set(theirs)):
        spec, annotation = message.fields[name], theirs[name].annotation
        if isinstance(spec.type, Message) and (inner := nested(annotation)):
            found += differences(spec.type, inner)
        elif values := literals(annotation):
            known = set(getattr(spec.type, "values", ()))
            found += [f"{message.name}.{name} has the new value {value}" for value in sorted(values - known)]
    return found


@pytest.mark.parametrize(
    ("message", "type_"),
    [
        (messages.MODEL, fireworks.types.Model),
        (messages.ACCOUNT, fireworks.types.Account),
        (messages.UPLOAD_ENDPOINT, fireworks.types.ModelGetUploadEndpointResponse),
        (messages.VALIDATE_UPLOAD, fireworks.types.ModelValidateUploadResponse),
        (messages.DOWNLOAD_ENDPOINT, fireworks.types.ModelGetDownloadEndpointResponse),
        (serving_messages.DEPLOYMENT, fireworks.types.Deployment),
        (serving_messages.DEPLOYED_MODEL, fireworks.types.shared.DeployedModel),
        (serving_messages.SHAPE, fireworks.types.DeploymentShape),
        (serving_messages.SHAPE_VERSION, fireworks.types.DeploymentShapeVersion),
        (messages.SECRET, fireworks.types.Secret),
    ],
    ids=lambda value: value.name if isinstance(value, Message) else "",
)
def test_the_field_tables_agree_with_the_sdk(message, type_):
    assert differences(message, type_) == []


def test_a_new_field_in_the_sdk_would_be_noticed():
    class Newer(fireworks.types.ModelValidateUploadResponse):
        errors: list[str] | None = None

    assert differences(messages.VALIDATE_UPLOAD, Newer) == ["ValidateModelUploadResponse.errors is new in the SDK"]


def complete(resource):
    """Assert that every field of the SDK's type was sent by the server."""
    missing = set(type(resource).model_fields) - resource.model_fields_set
    assert not missing
    return resource


def upload(urls, files):
    with httpx.Client(verify=False) as storage:
        for name, content in files.items():
            size = len(content)
            headers = {"Content-Type": OCTETS, "x-goog-content-length-range": f"{size},{size}"}
            assert storage.put(urls[name], content=content, headers=headers).status_code == 200


def test_models(emulator, sdk):
    files = base_files()
    created = complete(sdk.models.create(model_id="chat", model=BASE))
    assert created.state == "UPLOADING"
    endpoint = sdk.models.get_upload_endpoint("chat", filename_to_size={name: len(files[name]) for name in files})
    upload(endpoint.filename_to_signed_urls, files)
    assert sdk.models.validate_upload("chat", config_only=False).warnings == []
    model = complete(sdk.models.get("chat"))
    assert (model.state, model.base_model_details.api_model_type) == ("READY", "llama")
    assert complete(sdk.models.update("chat", display_name="Chat", public=True)).display_name == "Chat"
    assert [complete(found).name for found in sdk.models.list(filter='display_name="Chat"')] == [model.name]
    assert sdk.models.delete("chat") == {}
    with pytest.raises(fireworks.NotFoundError):
        sdk.models.get("chat")
    assert not emulator.failures


def test_the_sdk_pages_through_the_catalogue(emulator, sdk):
    found = [complete(model).name for model in sdk.models.list(account_id="fireworks", page_size=3)]
    assert len(found) == len(set(found)) > 3
    assert len(emulator.calls("list_models")) == -(-len(found) // 3)


def test_an_addon(emulator, sdk):
    peft = ADDON["peftDetails"]
    details = {"base_model": peft["baseModel"], "r": peft["r"], "target_modules": peft["targetModules"]}
    sdk.models.create(model_id="lora", model={"kind": "HF_PEFT_ADDON", "peft_details": details})
    files = adapter_files()
    endpoint = sdk.models.get_upload_endpoint("lora", filename_to_size={name: len(files[name]) for name in files})
    upload(endpoint.filename_to_signed_urls, files)
    sdk.models.validate_upload("lora")
    assert sdk.models.get("lora").peft_details.base_model_type == "qwen3"
    assert not emulator.failures


def test_errors_become_the_sdks_own(sdk):
    sdk.models.create(model_id="chat", model=BASE)
    with pytest.raises(fireworks.ConflictError, match="already exists"):
        sdk.models.create(model_id="chat", model=BASE)
    with pytest.raises(fireworks.BadRequestError) as caught:
        sdk.models.validate_upload("chat")
    assert caught.value.body["code"] == 9


def test_accounts(emulator, sdk):
    assert complete(sdk.accounts.get()).name == "accounts/acme"
    assert "accounts/local" in [complete(account).name for account in sdk.accounts.list()]
    assert not emulator.failures


def test_retries_of_the_sdk_meet_scripted_faults(emulator):
    with Fireworks(base_url=emulator.url, api_key="a-key", account_id="acme", max_retries=1) as client:
        emulator.fault("list_models", status=503, retry_after=0.01)
        assert list(client.models.list()) == []
    assert [call.status for call in emulator.calls("list_models")] == [503, 200]


QWEN = "accounts/fireworks/models/qwen3-8b"


class Calls:
    """One script of calls for the sync client and the async one; `run` knows which it has."""

    def __init__(self, client):
        self.client = client

    async def run(self, call):
        """Await what the async client returns; the sync client's answers are there already."""
        return await call if asyncio.iscoroutine(call) else call

    async def all(self, pages):
        if hasattr(pages, "__aiter__"):
            return [item async for item in pages]
        return list(pages)

    async def everything(self):
        await self.models()
        await self.addon()
        shape = await self.shapes()
        deployment = await self.deploy(shape)
        loaded = await self.load(deployment)
        await self.infer(deployment)
        await self.clean_up(loaded)

    async def models(self):
        models, run = self.client.models, self.run
        complete(await run(models.create(model_id="chat", model=BASE)))
        files = base_files()
        sizes = {name: len(content) for name, content in files.items()}
        endpoint = await run(models.get_upload_endpoint("chat", filename_to_size=sizes, enable_resumable_upload=False))
        upload(endpoint.filename_to_signed_urls, files)
        await run(models.validate_upload("chat"))
        complete(await run(models.update("chat", description="d")))
        complete(await run(models.get("chat")))
        assert len(await self.all(models.list())) == 1
        assert sorted((await run(models.get_download_endpoint("chat"))).filename_to_signed_urls) == sorted(files)
        await run(models.prepare("chat", precision="FP8"))

    async def addon(self):
        models, run = self.client.models, self.run
        peft = ADDON["peftDetails"]
        details = {"base_model": peft["baseModel"], "r": peft["r"], "target_modules": peft["targetModules"]}
        await run(models.create(model_id="lora", model={"kind": "HF_PEFT_ADDON", "peft_details": details}))
        files = adapter_files()
        sizes = {name: len(content) for name, content in files.items()}
        endpoint = await run(models.get_upload_endpoint("lora", filename_to_size=sizes))
        upload(endpoint.filename_to_signed_urls, files)
        await run(models.validate_upload("lora"))

    async def shapes(self):
        client, run = self.client, self.run
        match = await run(client.deployment_shape_versions.match_for_model(QWEN, enable_addons=True))
        version = complete(match.deployment_shape_versions[0])
        shape = complete(version.snapshot)
        listed = await self.all(client.deployment_shapes.list(account_id="fireworks", target_model=QWEN))
        assert shape.name in [complete(found).name for found in listed]
        shape_id = shape.name.rpartition("/")[2]
        complete(await run(client.deployment_shapes.get(shape_id, account_id="fireworks")))
        versions = client.deployment_shape_versions
        assert len(await self.all(versions.list(shape_id, account_id="fireworks"))) == 1
        complete(await run(versions.get("v1", account_id="fireworks", deployment_shape_id=shape_id)))
        return shape.name

    async def deploy(self, shape):
        deployments, run = self.client.deployments, self.run
        wanted = {"base_model": QWEN, "deployment_shape": shape, "enable_addons": True}
        complete(await run(deployments.create(**wanted, deployment_id="prod", validate_only=True)))
        made = complete(await run(deployments.create(**wanted, deployment_id="prod", description="d")))
        assert made.state == "CREATING"
        ready = complete(await run(deployments.get("prod")))
        assert (ready.state, complete(ready.replica_stats).ready_replica_count) == ("READY", 1)
        assert [complete(found).name for found in await self.all(deployments.list())] == [ready.name]
        complete(await run(deployments.update("prod", base_model=QWEN, max_replica_count=2)))
        await run(deployments.scale("prod", replica_count=2))
        assert (await run(deployments.get("prod"))).replica_count == 2
        return ready.name

    async def load(self, deployment):
        lora, run = self.client.lora, self.run
        loaded = complete(await run(lora.load(model="accounts/acme/models/lora", deployment=deployment)))
        id_ = loaded.name.rpartition("/")[2]
        assert complete(await run(lora.get(id_))).state == "DEPLOYED"
        complete(await run(lora.update(id_, display_name="L")))
        assert loaded.name in [complete(found).name for found in await self.all(lora.list())]
        return id_

    async def infer(self, deployment):
        client, run = self.client, self.run
        said = [{"role": "user", "content": "hello"}]
        target = f"accounts/acme/models/lora#{deployment}"
        answer = await run(client.chat.completions.create(model=target, messages=said))
        assert answer.choices[0].message.content.endswith("hello")
        text = await run(client.completions.create(model=deployment, prompt="hello"))
        assert text.choices[0].text.endswith("hello")
        streamed = await run(client.chat.completions.create(model=target, messages=said, stream=True))
        pieces = [piece.choices[0].delta.content for piece in await self.all(streamed)]
        assert "".join(pieces) == answer.choices[0].message.content

    async def clean_up(self, loaded):
        deployments, run = self.client.deployments, self.run
        await run(self.client.lora.unload(loaded))
        await run(deployments.delete("prod", ignore_checks=True))
        assert (await run(deployments.get("prod"))).state == "DELETED"
        complete(await run(deployments.undelete("prod", body={})))
        await run(deployments.delete("prod", hard=True, ignore_checks=True))
        await run(self.client.models.delete("lora"))
        assert complete(await run(self.client.accounts.get())).name == "accounts/acme"


def test_every_call_of_the_sync_sdk(emulator, sdk):
    asyncio.run(Calls(sdk).everything())
    assert not emulator.failures


def test_every_call_of_the_async_sdk(emulator):
    async def run():
        async with AsyncFireworks(base_url=emulator.url, api_key="a-key", account_id="acme", max_retries=0) as client:
            await Calls(client).everything()

    asyncio.run(run())
    assert not emulator.failures


def test_secrets(emulator, sdk):
    made = complete(sdk.secrets.create(key_name="AZURE_SAS", name="accounts/acme/secrets/azure-sas", value="hidden"))
    assert (made.name, made.value) == ("accounts/acme/secrets/azure-sas", "")
    assert complete(sdk.secrets.get("azure-sas")).key_name == "AZURE_SAS"
    assert [complete(found).name for found in sdk.secrets.list()] == [made.name]
    assert sdk.secrets.update("azure-sas", key_name="AZURE_SAS", value="other").value == ""
    assert sdk.secrets.delete("azure-sas") == {}
    assert not emulator.failures


def test_shapes_of_all_accounts(emulator, sdk):
    found = [complete(shape).name for shape in sdk.deployment_shapes.list(account_id="-")]
    assert "accounts/fireworks/deploymentShapes/qwen3-embedding-8b-minimal" in found
    assert not emulator.failures


def test_answers_that_get_lost_are_asked_for_again(emulator):
    """The SDK repeats 504 and 524 by itself; the model is READY all the same."""
    emulator.behave("validation=answer-lost:2")
    with Fireworks(base_url=emulator.url, api_key="a-key", account_id="acme", max_retries=2) as sdk:
        sdk.models.create(model_id="chat", model=BASE)
        files = base_files()
        endpoint = sdk.models.get_upload_endpoint("chat", filename_to_size={name: len(files[name]) for name in files})
        upload(endpoint.filename_to_signed_urls, files)
        assert sdk.models.validate_upload("chat").warnings == []
        assert sdk.models.get("chat").state == "READY"


def test_states_and_statuses_that_the_sdk_does_not_know_pass_through(emulator, sdk):
    emulator.behave("states=preparing", "validation=precondition-412:1")
    files = base_files()
    sdk.models.create(model_id="chat", model=BASE)
    endpoint = sdk.models.get_upload_endpoint("chat", filename_to_size={name: len(files[name]) for name in files})
    upload(endpoint.filename_to_signed_urls, files)
    with pytest.raises(fireworks.APIStatusError) as caught:
        sdk.models.validate_upload("chat")
    assert (caught.value.status_code, caught.value.body["code"]) == (412, 9)
    sdk.models.validate_upload("chat")
    assert sdk.models.get("chat").state == "PREPARING"
