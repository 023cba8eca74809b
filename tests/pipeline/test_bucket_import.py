"""Imports of models in a real S3 server (moto). The local Fireworks answers as Fireworks would, but reads no bucket."""

import json
import logging
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from support.account import KEY, QUICK, open_account
from support.checkpoints import (
    edit_json,
    make_adapter,
    make_embedder,
    make_llama,
    make_pyfunc_model,
    make_reference_only_model,
    make_transformers_model,
)
from support.counting_proxy import CountingProxy
from support.planning import plan
from support.s3_server import running_s3
from support.source_world import Remembers

from mlflow_fireworks.artifacts.sources.folder import FolderStore
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.commands import Commands
from mlflow_fireworks.config import parse_config
from mlflow_fireworks.errors import ApiError, CheckpointError, CredentialsError, DeadlineError, InvalidConfigError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.gateway.operations import AzureBlobSource, S3Source
from mlflow_fireworks.pipeline.bucket_import import find_folder, import_files
from mlflow_fireworks.pipeline.plan import Action
from mlflow_fireworks.run import Run
from mlflow_fireworks.waiting import Waiter

KEY_ID, SECRET = "AKIAQQQQEXAMPLE12345", "kR9+very/secret/key=of+forty/characters0"
WITH_KEYS = {"aws_access_key_id_env": "MY_KEY_ID", "aws_secret_access_key_env": "MY_SECRET"}
ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.fixture
def account():
    with open_account({"transfer": "import", "aws_role_arn": ROLE}) as account:
        yield account


@pytest.fixture(scope="module")
def s3():
    with running_s3() as s3:
        yield s3


@pytest.fixture
def bucket(s3, monkeypatch):
    url, client = s3
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield Bucket(client)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="models"):
        for entry in page.get("Contents", ()):
            client.delete_object(Bucket="models", Key=entry["Key"])


class Bucket:
    """Puts folders into the bucket `models`."""

    def __init__(self, client):
        self.client = client

    def put(self, folder, path):
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                name = file.relative_to(folder).as_posix()
                self.client.put_object(Bucket="models", Key=f"{path}/{name}", Body=file.read_bytes())
        return f"s3://models/{path}"


@pytest.fixture
def chat(bucket, tmp_path):
    return bucket.put(make_llama(tmp_path / "llama", shards=2), "teams/chat")


def test_fireworks_fetches_a_model_itself(account, chat, caplog):
    caplog.set_level(logging.INFO, "mlflow.fireworks")
    account.emulator.set_transition("operations", reads=3)
    result = account.run().create("chat", chat).to_dict()
    assert result["state"] == "READY"
    assert result["action"] == "created"
    assert result["source"] == chat
    assert account.emulator.calls("put_object") == []
    assert account.emulator.calls("get_upload_endpoint") == []
    assert [request.operation for request in account.changes()] == ["create_model", "import_model"]
    assert len(account.emulator.calls("get_operation")) == 4
    assert account.waits == [1.0, 1.5, 2.25, 3.375]
    assert f"to be imported from {chat}, as {ROLE}" in caplog.text
    assert "[2/4] ask Fireworks to import s3://models/teams/chat" in caplog.text
    assert "importing; checking again in 1s" in caplog.text


@pytest.fixture
def single(s3, bucket, tmp_path, monkeypatch):
    """A model of one file of 11 MB, and what counts the bytes that leave its bucket."""
    folder = make_llama(tmp_path / "llama", hidden=512)
    uri = bucket.put(folder, "single")
    with CountingProxy(s3[0]) as proxy:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", proxy.url)
        weights = (folder / "model.safetensors").stat().st_size
        assert weights > 10_000_000
        proxy.documents = sum(file.stat().st_size for file in folder.iterdir()) - weights
        proxy.uri = uri
        yield proxy


HEADER = 64 * 1024  # what is read of a file, whether its header is so long or not
ANSWERS = 10_000  # the listing, and the heads of the answers


def test_an_import_moves_no_weights_through_this_machine(account, single, caplog):
    caplog.set_level(logging.INFO, "mlflow.fireworks")
    assert account.run(max_disk="1MB").create("chat", single.uri).to_dict()["state"] == "READY"
    assert single.sent < single.documents + HEADER + ANSWERS
    assert account.emulator.calls("put_object") == []
    assert "fetched as they are uploaded" not in caplog.text


def test_a_model_that_is_ready_is_found_so_without_reading_its_weights(account, single):
    upload = {"transfer": "upload", "aws_role_arn": None}
    account.run(**upload).create("chat", single.uri)
    assert single.sent > 10_000_000
    for options in (upload, {"shard_size": "auto", **upload}):
        requests, single.sent = len(account.emulator.requests), 0
        assert account.run(**options).create("chat", single.uri).action is Action.NOTHING
        assert len(account.emulator.requests) - requests <= 3
        assert single.sent < single.documents + HEADER + ANSWERS


def test_what_was_imported_is_the_same_content_as_what_is_uploaded(account, chat):
    account.run().create("chat", chat)
    again = account.run(transfer="upload", aws_role_arn=None, shard_size="off").create("chat", chat)
    assert again.action is Action.NOTHING
    assert account.run().create("chat", chat).action is Action.NOTHING


def test_the_checkpoint_of_a_pyfunc_is_one_folder_in_the_bucket(account, bucket, tmp_path, caplog):
    caplog.set_level(logging.INFO, "mlflow.fireworks")
    uri = bucket.put(make_pyfunc_model(tmp_path / "model"), "1/models/m-1/artifacts")
    assert account.run().create("chat", uri).to_dict()["state"] == "READY"
    assert "import s3://models/1/models/m-1/artifacts/artifacts/checkpoint" in caplog.text
    assert "will also fetch" not in caplog.text


def test_an_embedding_model_keeps_its_inner_folders(account, bucket, tmp_path):
    uri = bucket.put(make_embedder(tmp_path / "embedder"), "embed")
    assert account.run().create("embed", f"{uri}/").to_dict()["kind"] == "EMBEDDING_MODEL"


def test_an_adapter_alone_in_its_folder_is_imported(account, bucket, tmp_path):
    folder = make_adapter(tmp_path / "adapter", hidden=4096)
    (folder / "README.md").unlink()
    assert account.run().create("tuned", bucket.put(folder, "adapter")).to_dict()["state"] == "READY"


def test_a_dry_run_says_what_would_come_along_and_changes_nothing(account, bucket, tmp_path, caplog):
    caplog.set_level(logging.INFO, "mlflow.fireworks")
    folder = make_llama(tmp_path / "llama")
    (folder / "notes.txt").write_text("short")
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "optimizer.pt").write_bytes(bytes(50_000))
    outcome = account.run(dry_run=True).create("chat", bucket.put(folder, "llama"))
    assert outcome.dry_run
    assert account.changes() == []
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text for text in warnings if "optimizer" in text] == [
        "an import takes the whole folder, so Fireworks will also fetch checkpoint-5/optimizer.pt, notes.txt (48.8 KiB)"
    ]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (make_transformers_model, r"tokenizer_config\.json must be made with .*its files are in 2 folders"),
        (
            lambda path: folded(make_llama(path)),
            r"_config\.json must be made with chat_template\.jinja, but an import only copies files",
        ),
        (lambda path: lowered(make_embedder(path)), r"modules\.json must be made from .*2 folders"),
        (lambda path: marked(make_llama(path)), r"config\.json must be made from config\.json, in plain UTF-8"),
        (make_adapter, r"holds more than the adapter: README\.md .*an adapter is small"),
    ],
    ids=[
        "several folders",
        "template to be folded in",
        "transformer in a folder of its own",
        "byte-order mark",
        "adapter with a card",
    ],
)
def test_what_a_copy_of_one_folder_cannot_give_is_refused_before_anything_is_asked(
    account, bucket, tmp_path, make, says
):
    uri = bucket.put(make(tmp_path / "model"), "model")
    with pytest.raises(CheckpointError, match=says) as caught:
        account.run().create("chat", uri)
    assert "omit -C transfer=import" in str(caught.value)
    assert account.changes() == []


def folded(folder):
    edit_json(folder / "tokenizer_config.json", chat_template=None)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def marked(folder):
    config = folder / "config.json"
    config.write_text(config.read_text(), encoding="utf-8-sig")
    return folder


def lowered(folder):
    """As sentence-transformers wrote models before version 5: the transformer in `0_Transformer/`."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).rename(inner / name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = inner.name
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def test_weights_that_would_be_divided_are_refused(account, bucket, tmp_path):
    uri = bucket.put(make_llama(tmp_path / "llama", hidden=64), "llama")
    assert account.run(dry_run=True).create("chat", uri).dry_run
    with pytest.raises(CheckpointError, match=r"safetensors must be made from model\.safetensors"):
        account.run(shard_size="64KiB").create("chat", uri)
    assert account.changes() == []


def test_weights_that_only_the_hub_has_are_refused(bucket, tmp_path):
    reference = make_reference_only_model(tmp_path / "model", repo="acme/chat")
    there = open_source(str(make_llama(tmp_path / "hub")))
    source = open_source(bucket.put(reference, "reference"), workspace=tmp_path)
    manifest = plan(source, open_reference=lambda uri: Source(uri, uri, uri, there.files, there.store, {}))
    source.store.close()
    with pytest.raises(CheckpointError, match=r"not in s3://models/reference but come from hf:/acme/chat@a"):
        find_folder(source, manifest, S3Source("models", "reference"), Remembers())


def test_a_folder_of_this_machine_is_refused_before_it_is_read(account, tmp_path):
    folder = make_llama(tmp_path / "llama")
    (folder / "config.json").write_text("not json")
    with pytest.raises(InvalidConfigError, match="is on this machine"):
        account.run().create("chat", str(folder))
    assert account.changes() == []


def test_missing_keys_are_noticed_before_a_file_is_read(account, bucket, tmp_path):
    uri = bucket.put(make_llama(tmp_path / "llama"), "llama")
    bucket.client.delete_object(Bucket="models", Key="llama/config.json")
    with pytest.raises(CredentialsError, match="MY_KEY_ID that -C aws_access_key_id_env names is not set"):
        account.run(aws_role_arn=None, **WITH_KEYS).create("chat", uri)
    assert account.changes() == []


def test_an_import_that_fails_is_quoted_and_can_be_tried_again(account, chat):
    account.emulator.set_transition("operations", reads=1, fails_with="AccessDenied on\ns3://models")
    with pytest.raises(
        ApiError, match=r"could not import s3://models/teams/chat: AccessDenied on s3://models \(code 13"
    ):
        account.run().create("chat", chat)
    assert account.gateway.models.find("chat").state == "UPLOADING"
    account.emulator.set_transition("operations")
    outcome = account.run().create("chat", chat)
    assert outcome.action is Action.RESUME
    assert outcome.to_dict()["state"] == "READY"
    assert len(account.emulator.calls("create_model")) == 1


def test_an_import_that_never_ends_has_a_limit(account, chat):
    account.emulator.set_transition("operations", reads=1_000_000)
    with pytest.raises(DeadlineError) as caught:
        account.run(import_timeout="10m").create("chat", chat)
    assert sum(account.waits) == 600
    assert max(account.waits) == 30
    text = str(caught.value)
    assert "s3://models/teams/chat has not been imported after 10m 0s" in text
    assert "op-" in text
    assert "mlflow deployments update -t fireworks --name chat" in text


def test_without_waiting_the_import_is_only_begun(account, chat):
    account.emulator.set_transition("operations", reads=2)
    outcome = account.run(synchronous=False).create("chat", chat)
    assert outcome.to_dict()["state"] == "UPLOADING"
    assert account.emulator.calls("validate_upload") == []
    assert account.waits == []
    assert account.run().create("chat", chat).to_dict()["state"] == "READY"


@pytest.mark.parametrize("operation", ["import_model", "get_operation"])
@pytest.mark.parametrize(
    "trouble", [{"status": 503}, {"status": 429, "retry_after": 0}, {"drop": "reset", "act": True}], ids=str
)
def test_trouble_that_passes_is_not_seen(account, chat, operation, trouble):
    account.emulator.fault(operation, times=2, **trouble)
    assert account.run().create("chat", chat).to_dict()["state"] == "READY"


@pytest.mark.parametrize("status", [409, 404])
def test_an_import_or_operation_that_is_known_already_or_not_is_left_to_validation(account, chat, status):
    """409 to the second `:import` after a lost reply; 404 for an operation that is kept elsewhere."""
    body = json.dumps({"code": 6, "details": [], "message": "import is running"})
    account.emulator.fault({409: "import_model", 404: "get_operation"}[status], status=status, body=body)
    with pytest.raises(DeadlineError, match="is not READY after 2m"):  # nothing was imported, so it cannot validate
        account.run(timeout="2m").create("chat", chat)
    assert len(account.emulator.calls("validate_upload")) > 1


def test_no_secret_in_any_log_or_error(account, chat, caplog, monkeypatch):
    monkeypatch.setenv("MY_KEY_ID", KEY_ID)
    monkeypatch.setenv("MY_SECRET", SECRET)
    caplog.set_level(logging.DEBUG)
    for name in (None, "httpx", "httpcore", "stamina", "mlflow.fireworks"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    run = account.run(aws_role_arn=None, **WITH_KEYS)
    assert account.run(aws_role_arn=None, dry_run=True, **WITH_KEYS).create("chat", chat).dry_run
    account.emulator.fault("import_model", drop="reset", act=True)
    account.emulator.set_transition("operations", reads=1, fails_with=f"key {KEY_ID} with {SECRET} is not allowed")
    with pytest.raises(ApiError, match="key … with … is not allowed") as caught:
        run.create("chat", chat)
    quoting = json.dumps({"code": 3, "details": [], "message": f"bad {SECRET}"})
    account.emulator.fault("import_model", status=400, body=quoting)
    with pytest.raises(ApiError, match="bad …") as refused:
        run.create("chat", chat)
    errors = "".join(f"{one.value!r} {one.value} {vars(one.value)}" for one in (caught, refused))
    everything = errors + "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert ":import" in everything
    for secret in (KEY, KEY_ID, SECRET):
        assert secret not in everything


def test_keys_reach_fireworks(account, chat, monkeypatch):
    monkeypatch.setenv("MY_KEY_ID", KEY_ID)
    monkeypatch.setenv("MY_SECRET", SECRET)
    account.run(aws_role_arn=None, **WITH_KEYS).create("chat", chat)
    body = {"s3Bucket": "models", "s3Path": "teams/chat/", "accessKeyId": KEY_ID, "accessSecret": SECRET}
    expected = httpx.Request("POST", "https://api.example", json={"awsS3Source": body})
    assert account.emulator.calls("import_model")[0].received == len(expected.content)


@contextmanager
def scripted(*answers):
    waiting = list(answers)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=waiting.pop(0)))
    with Gateway("https://api.example", SecretStr(KEY), "acme", retry=QUICK, transport=transport) as gateway:
        yield gateway


AGAIN = "mlflow deployments update --name chat"
BLOBS = AzureBlobSource("contoso", "models", "chat")


def impatient(gateway, reporter):
    waiter = Waiter(reporter, lambda: 0.0, lambda _: None)
    return Run(gateway, Commands("fireworks"), reporter, waiter, Path(), parse_config({}), retry=QUICK)


def test_a_model_that_an_import_made_ready_needs_no_validation():
    done = {"name": "accounts/acme/operations/1", "done": True}
    model = {"name": "accounts/acme/models/chat", "state": "READY"}
    with scripted(done, model) as gateway:
        assert not import_files(impatient(gateway, Remembers()), "chat", BLOBS, AGAIN)
    with scripted(done, model | {"state": "UPLOADING"}) as gateway:
        assert import_files(impatient(gateway, Remembers()), "chat", BLOBS, AGAIN)


def test_what_fireworks_says_of_its_progress_is_passed_on():
    running = {"name": "accounts/acme/operations/1", "metadata": {"statusMessage": "copied 3 of 9 files"}}
    told = Remembers()
    with scripted(running, {"done": True}, {"name": "x", "state": "READY"}) as gateway:
        import_files(impatient(gateway, told), "chat", BLOBS, AGAIN)
    assert told.notes == ["      copied 3 of 9 files; checking again in 1s"]


def test_an_import_without_an_operation_says_where_to_look():
    with scripted({}) as gateway, pytest.raises(ApiError, match=r"returned no operation.*update --name chat"):
        import_files(impatient(gateway, Remembers()), "chat", BLOBS, AGAIN)


def test_a_lost_reply_to_an_import_that_has_ended_is_no_failure():
    ready = {"name": "accounts/acme/models/chat", "state": "READY"}

    def respond(request):
        refusal = {"code": 9, "message": "model is READY"}
        return httpx.Response(400, json=refusal) if request.method == "POST" else httpx.Response(200, json=ready)

    told = Remembers()
    with Gateway("https://api.example", SecretStr(KEY), "acme", transport=httpx.MockTransport(respond)) as gateway:
        assert not import_files(impatient(gateway, told), "chat", BLOBS, AGAIN)
    assert told.notes == ["      Fireworks was asked before: model is READY"]


def test_files_below_a_folder_with_a_longer_name_are_not_taken_for_extras(tmp_path):
    files = make_llama(tmp_path / "llama")
    sizes = {f"chat/{path.name}": path.stat().st_size for path in files.iterdir()}
    store = FolderStore(tmp_path)
    (tmp_path / "chat").symlink_to(files)
    source = Source("s3://m", "s3://m", "s3://m", sizes | {"chat-old/config.json": 9}, store, {}, location="s3://m")
    told = Remembers()
    origin = find_folder(source, plan(source, checkpoint_path="chat"), S3Source("m", ""), told)
    assert origin.path == "chat"
    assert not any("also fetch" in text for text in told.notes + told.warnings)
