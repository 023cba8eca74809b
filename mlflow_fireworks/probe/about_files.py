"""Questions about what may be uploaded: names, numbers of files, sessions, kinds of checkpoints."""

from posixpath import commonpath

import httpx

from mlflow_fireworks.probe.about_account import CATALOGUE
from mlflow_fireworks.probe.about_models import base_fields, sizes_of
from mlflow_fireworks.probe.answers import Reply
from mlflow_fireworks.probe.checkpoint import Files, make_adapter, make_llama, make_quantized_llama
from mlflow_fireworks.probe.points import Finding, Point
from mlflow_fireworks.probe.session import PREFIX, NotAskedError, Session, is_not_yet

MANY = 40
_WELL_KNOWN = "accounts/fireworks/models/llama-v3p1-8b-instruct"
_WAIT_SECONDS = 12.0
_WAIT_FOR_NOTHING_SECONDS = 4.0
_IN_A_FOLDER = "1_Pooling/config.json"
_EMPTY = "empty.txt"
_POOLING = b'{"word_embedding_dimension": 16, "pooling_mode_mean_tokens": true}'


def _files_in_folders() -> dict[str, bytes]:
    return {**make_llama(), _IN_A_FOLDER: _POOLING}


def _folders(session: Session) -> Finding:
    files = _files_in_folders()
    _start(session, "names", files)
    urls = session.urls["names"]
    if _IN_A_FOLDER not in urls:
        return Finding(f"signed as {', '.join(map(session.mask.hide, sorted(urls)))}", {"names": "flattened"})
    paths = {name: session.object_path("names", name) for name in urls}
    root = commonpath(paths[name] for name in paths if "/" not in name)
    ends = {name: path.removeprefix(root).lstrip("/") for name, path in paths.items()}
    session.put("names", files)
    if ends[_IN_A_FOLDER] == _IN_A_FOLDER:
        return Finding("kept in the path of the object", {"names": "kept"})
    if paths[_IN_A_FOLDER] == paths["config.json"]:
        return Finding("flattened: the same object as config.json", {"names": "flattened"})
    return Finding(f"the path ends in {session.mask.hide(ends[_IN_A_FOLDER])}")


def _folders_after_validation(session: Session) -> Finding:
    replies = session.wait_until_ready("names", _WAIT_SECONDS)
    if not session.is_ready("names"):
        # Its config.json was as good as that of the other models, so it is the one in the folder that was read.
        is_flat = session.is_ready("base") and replies[-1].status == httpx.codes.BAD_REQUEST
        return Finding(replies[-1].describe(), {"names": "flattened"} if is_flat else {})
    reply = session.call("GET", f"/v1/{session.model('names')}:getDownloadEndpoint")
    found = reply.body.get("filenameToSignedUrls")
    if not reply.is_success or not isinstance(found, dict) or not found:
        return Finding(f"READY; the list of its files: {reply.describe()}")
    names = sorted(session.mask.hide(str(name)) for name in found)
    is_kept = any(name.endswith(_IN_A_FOLDER) for name in names)
    return Finding(f"READY with {', '.join(names)}", {"names": "kept" if is_kept else "flattened"})


def _empty_file(session: Session) -> Finding:
    files = {**make_llama(), _EMPTY: b""}
    _start(session, "empty", files)
    [reply] = session.put("empty", {_EMPTY: b""})
    session.put("empty", make_llama())
    return Finding(f"signed; PUT {reply.describe()}")


def _empty_file_after_validation(session: Session) -> Finding:
    return _how_validation_ends(session, "empty")[0]


def _resumable(session: Session) -> Finding:
    files = make_llama()
    session.create_model("session", base_fields(files))
    reply = session.sign("session", sizes_of(files), resumable=True)
    if not reply.is_success:
        return Finding(f"not offered: {reply.describe()}")
    signed = "x-goog-resumable" in session.query_of("session", "config.json")
    opened = session.open_session("session", "config.json", len(files["config.json"]))
    headers = ", ".join(opened.answer.headers) or "none"
    return Finding(
        f"x-goog-resumable is {'signed' if signed else 'not signed'}; POST {opened.describe()}, with headers {headers}"
    )


def _many_files(session: Session) -> Finding:
    names = [f"model-{number:05d}-of-{MANY:05d}.safetensors" for number in range(1, MANY + 1)]
    files = {**make_llama(), **dict.fromkeys(names, b"0123456789")}
    del files["model.safetensors"]
    for reply in _ask_to_start(session, "many", files):
        if not reply.is_success:
            few_are_taken = bool(session.urls.get("base"))
            ways = {"many-files": "refused"} if few_are_taken else {}
            return Finding(f"{len(files)} files: {reply.describe()}", ways)
    return Finding(f"{len(files)} files: accepted", {"many-files": "accepted"})


def _quantized(session: Session) -> Finding:
    files = make_quantized_llama()
    _start(session, "quantized", files)
    session.put("quantized", files)
    return Finding("uploaded")


def _quantized_after_validation(session: Session) -> Finding:
    finding, is_accepted = _how_validation_ends(session, "quantized")
    return Finding(finding.text, {} if is_accepted is None else {"quantized": "accepted" if is_accepted else "refused"})


def _adapter(session: Session) -> Finding:
    listed = session.call("GET", CATALOGUE, params={"pageSize": "1", "filter": "supports_lora=true"})
    models = listed.body.get("models")
    base = str(models[0].get("name", "")) if isinstance(models, list) and models else _WELL_KNOWN
    files = make_adapter(base)
    peft = {"baseModel": base, "r": 8, "targetModules": ["q_proj"]}
    created = session.create_model("adapter", {"kind": "HF_PEFT_ADDON", "peftDetails": peft})
    if not created.is_success:
        return Finding(created.describe())
    reply = session.sign("adapter", sizes_of(files))
    if reply.is_success:
        session.put("adapter", files)
        return Finding("signed and uploaded")
    del files["fireworks.json"]
    again = session.sign("adapter", sizes_of(files))
    if again.is_success:
        session.put("adapter", files)
    is_strict = "unexpected file" in reply.answer.message
    ways = {"adapter-files": "strict"} if is_strict else {}
    return Finding(f"signing: {reply.describe()}; without it: {again.describe()}", ways)


def _adapter_after_validation(session: Session) -> Finding:
    if not session.urls.get("adapter"):
        raise NotAskedError("the adapter was not signed")
    reply = session.wait_until_ready("adapter", _WAIT_SECONDS)[-1]
    if is_not_yet(reply) or "adapter-files" in session.ways:
        return Finding(reply.describe())
    # Its weights fit no base model: a refusal for those has passed the look at its files.
    is_strict = "unexpected file" in reply.answer.message
    return Finding(reply.describe(), {"adapter-files": "strict" if is_strict else "fireworks-json"})


def _chunked(session: Session) -> Finding:
    files = make_llama()
    _start(session, "chunked", files)
    session.put("chunked", {name: content for name, content in files.items() if name != "config.json"})
    [reply] = session.put("chunked", {"config.json": files["config.json"]}, chunked=True)
    return Finding(reply.describe())


def _chunked_after_validation(session: Session) -> Finding:
    finding, is_stored = _how_validation_ends(session, "chunked", _WAIT_FOR_NOTHING_SECONDS)
    if is_stored:
        return Finding(finding.text, {"chunked-uploads": "stored"})
    # All other models were sent in the same way but for this, and are READY.
    return Finding(finding.text, {"chunked-uploads": "dropped"} if session.is_ready("base") else {})


def _embedding(session: Session) -> Finding:
    files = make_llama()
    _start(session, "embedding", files, kind="EMBEDDING_MODEL")
    session.put("embedding", files)
    return Finding("uploaded")


def _embedding_after_validation(session: Session) -> Finding:
    return _how_validation_ends(session, "embedding")[0]


def _import(session: Session) -> Finding:
    session.create_model("import", base_fields(make_llama()))
    session.need("import")
    source = {"s3Bucket": f"{PREFIX}-{session.stamp}-no-such-bucket", "s3Path": "model"}
    reply = session.call("POST", f"/v1/{session.model('import')}:import", {"awsS3Source": source})
    if not reply.is_success:
        return Finding(reply.describe())
    name = str(reply.body.get("name", ""))
    form = "/".join(part if number % 2 == 0 else "…" for number, part in enumerate(name.split("/")))
    asked = session.call("GET", f"/v1/{name}")
    return Finding(f"operation {session.mask.hide(form)}; asked for it: {asked.describe()}")


def _ask_to_start(session: Session, role: str, files: Files, kind: str = "HF_BASE_MODEL") -> tuple[Reply, ...]:
    """Create a model and have its files signed, as far as that goes."""
    created = session.create_model(role, base_fields(files, kind))
    return (created, session.sign(role, sizes_of(files))) if created.is_success else (created,)


def _start(session: Session, role: str, files: Files, *, kind: str = "HF_BASE_MODEL") -> None:
    reply = _ask_to_start(session, role, files, kind)[-1]
    if not reply.is_success:
        raise NotAskedError(f"refused: {reply.describe()}")


def _how_validation_ends(session: Session, role: str, seconds: float = _WAIT_SECONDS) -> tuple[Finding, bool | None]:
    """In words, and whether the model was accepted; None where neither is sure."""
    if not session.urls.get(role):
        raise NotAskedError(f"PROBE-{role} was not signed")
    reply = session.wait_until_ready(role, seconds)[-1]
    if session.is_ready(role):
        return Finding("READY"), True
    is_sure = session.is_ready("base") and reply.status == httpx.codes.BAD_REQUEST
    return Finding(reply.describe()), False if is_sure else None


SENDING = (
    Point("folders", "Are subdirectories in names kept?", "upload 1_Pooling/config.json beside config.json", _folders),
    Point("empty file", "May a file be empty?", "upload one", _empty_file),
    Point("resumable", "How are resumable uploads offered?", "sign with enableResumableUpload, start one", _resumable),
    Point("many files", f"Are {MANY} shards too many?", "create and sign that many names", _many_files),
    Point("quantized", "May a checkpoint be quantized (FP8)?", "upload one", _quantized),
    Point("adapter files", "May an adapter have a fireworks.json?", "upload one on a catalogue model", _adapter),
    Point("chunked", "Does storage accept a body of unknown length?", "PUT config.json that way", _chunked),
    Point("embedding model", "Does a model of that kind go the same way?", "upload one", _embedding),
    Point("import", "What is an import's operation called?", "import a bucket that does not exist", _import),
)
CHECKING = (
    Point("folders, READY", "Does a READY model have them?", "validate, list its downloads", _folders_after_validation),
    Point("empty file, READY", "Does it become READY?", "validate", _empty_file_after_validation),
    Point("quantized, READY", "Does it become READY?", "validate", _quantized_after_validation),
    Point("adapter, READY", "Does it become READY? Its weights fit no model.", "validate", _adapter_after_validation),
    Point("chunked, READY", "Was it stored?", "validate", _chunked_after_validation),
    Point("embedding, READY", "Does it become READY?", "validate", _embedding_after_validation),
)
