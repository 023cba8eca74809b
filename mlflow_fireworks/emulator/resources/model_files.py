"""The files of models: signed URLs for them, and the validation that makes a model READY."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_fireworks.emulator.options import Clock, Options
from mlflow_fireworks.emulator.protocol.wire import ApiError, Call, Code, JsonObject, LostAnswerError, timestamp
from mlflow_fireworks.emulator.resources import catalogue
from mlflow_fireworks.emulator.resources.models import ADDONS, LORA_TYPES, Models, object_prefix
from mlflow_fireworks.emulator.storage.signing import LENGTH_RANGE, Signer
from mlflow_fireworks.emulator.storage.state import Resource, Store, StoredObject, Transaction
from mlflow_fireworks.emulator.validation import adapter, architectures, base_model
from mlflow_fireworks.emulator.validation.base_model import Skips
from mlflow_fireworks.emulator.validation.files import UploadedFile, parse_object
from mlflow_fireworks.emulator.validation.safetensors import Tensor, read_tensors

_BASES = frozenset({"HF_BASE_MODEL", "EMBEDDING_MODEL"})
_MAX_NAME_BYTES = 1024
_VALIDATED = ("READY", "PREPARING")
_URL_SECONDS = {"60m": 3600, "15m": 900}


@dataclass(frozen=True)
class ModelFiles:
    """The half of the model service that deals in files.

    Args:
        store: Where models and uploaded objects live.
        options: Life of signed URLs.
        models: Resolves models.
        signer: Signs upload and download URLs.
        clock: Seconds since the epoch.
    """

    store: Store
    options: Options
    models: Models
    signer: Signer
    clock: Clock

    def get_upload_endpoint(self, call: Call) -> JsonObject:
        """GetModelUploadEndpoint: registers exactly the given files and signs one PUT for each."""
        self.models.refuse_catalogue(call.path["account"])
        self.models.refuse_custom(call.path["account"])
        behaviours = self.options.behaviours
        sizes: dict[str, int] = call.body.get("filenameToSize", {})
        flat = behaviours.has("names", "flattened")
        stored = {name: name.rpartition("/")[2] if flat else name for name in sizes}
        with self.store.transaction() as transaction:
            resource = self.models.addressed(transaction, call)
            if resource.body["state"] in _VALIDATED:
                raise ApiError(Code.ALREADY_EXISTS, f'model "{resource.name}" already exists and is READY')
            if not sizes:
                raise ApiError(Code.INVALID_ARGUMENT, "filename_to_size must not be empty")
            if resource.private["files"]:
                _refuse_second(resource, behaviours.of("second-signing"))
                if behaviours.has("landed-files", "forgotten"):
                    transaction.remove_objects(object_prefix(resource))
            self.models.check_count(len(sizes))
            also = behaviours.has("adapter-files", "fireworks-json")
            for name, size in sizes.items():
                _check_file(resource.body["kind"], name, size, fireworks_json=also)
            resource.private["files"] = {stored[name]: size for name, size in sizes.items()}
            transaction.put(resource)
        signed, method = {"content-type": "application/octet-stream"}, "PUT"
        if call.body.get("enableResumableUpload"):
            signed, method = {**signed, "x-goog-resumable": "start"}, "POST"
        return {
            "filenameToSignedUrls": {
                name: self.signer.sign(
                    method,
                    call.host,
                    object_prefix(resource) + stored[name],
                    {**signed, LENGTH_RANGE: f"{size},{size}"},
                    now=self.clock(),
                    expires_seconds=self._url_seconds(),
                )
                for name, size in sizes.items()
            },
            "filenameToUnsignedUris": {},
        }

    def get_download_endpoint(self, call: Call) -> JsonObject:
        """GetModelDownloadEndpoint: one signed GET for each file of a READY model."""
        with self.store.transaction() as transaction:
            model = self.models.addressed(transaction, call)
            if model.body["state"] != "READY":
                raise ApiError(Code.FAILED_PRECONDITION, f'model "{model.name}" is not READY')
            if "uid" not in model.private:
                raise ApiError(Code.PERMISSION_DENIED, "model download is not enabled for this model")
            prefix = object_prefix(model)
            names = [name for name in transaction.objects(prefix) if name in model.private["files"]]
        expires = self._url_seconds()
        urls = {
            name: self.signer.sign("GET", call.host, prefix + name, {}, now=self.clock(), expires_seconds=expires)
            for name in names
        }
        return {"filenameToSignedUrls": urls}

    def validate_upload(self, call: Call) -> JsonObject:
        """ValidateModelUpload: code 9 until every file has landed, then the checks, then READY."""
        self.models.refuse_catalogue(call.path["account"])
        warnings: list[str] = []
        with self.store.transaction() as transaction:
            resource = self.models.addressed(transaction, call)
            refusal: ApiError | None = None
            if call.query.get("trustRemoteCode"):
                resource.private["trusted"] = True  # `answers.engines` asks for it
            if resource.body["state"] not in _VALIDATED:
                landed = {} if resource.private.get("imported") else self._landed(transaction, resource)
                refusal = self._not_yet(resource, landed)
                if refusal is None:
                    warnings = self._check(transaction, resource, landed, call.query) if landed else []
                    self._finish(resource)
            refusal = refusal or self._lose(resource)
            transaction.put(resource)
        if refusal:  # raised out here, so that what was counted or done is kept
            raise refusal
        return {"warnings": warnings}

    def validate_config(self, call: Call) -> JsonObject:
        """ValidateModelConfig: the free pre-flight check of a config.json."""
        if not call.body.get("configJson"):
            raise ApiError(Code.INVALID_ARGUMENT, "config_json is required")
        base_model.check_config(call.body["configJson"], quantized=self.options.behaviours.has("quantized", "accepted"))
        if call.body.get("tokenizerConfigJson"):
            parse_object("tokenizer_config.json", call.body["tokenizerConfigJson"])
        return {}

    def _url_seconds(self) -> int:
        return _URL_SECONDS[self.options.behaviours.of("url-life")]

    def _not_yet(self, resource: Resource, landed: dict[str, StoredObject]) -> ApiError | None:
        """What the first calls after a good upload are refused with, where that is the way."""
        behaviours = self.options.behaviours
        if not behaviours.has("validation", "not-found", "precondition-412"):
            return None
        since = max((stored.landed_at for stored in landed.values()), default=0.0)
        if not behaviours.lasts("validation", resource.private, self.clock(), since):
            return None
        if behaviours.has("validation", "not-found"):
            config = "adapter_config.json" if resource.body["kind"] in ADDONS else "config.json"
            return ApiError(Code.INVALID_ARGUMENT, f"{config} not found")
        return self._still_landing("model files are still being uploaded")

    def _still_landing(self, message: str) -> ApiError:
        # The documentation's own sample waits for this word, other clients for code 9.
        status = 412 if self.options.behaviours.has("validation", "precondition-412") else 0
        return ApiError(Code.FAILED_PRECONDITION, f"FAILED_PRECONDITION: {message}", status=status)

    def _finish(self, resource: Resource) -> None:
        now, behaviours = self.clock(), self.options.behaviours
        resource.private["ready_at"] = now
        resource.body.update(state="READY", status={"code": "OK"}, updateTime=timestamp(now, digits=6))
        if behaviours.has("states", "failed"):
            resource.body.update(state="FAILED", status={"code": "INTERNAL", "message": "model preparation failed"})
        elif behaviours.has("states", "preparing"):
            self.models.begin(resource, {})

    def _lose(self, resource: Resource) -> ApiError | None:
        """The answer of a call that was carried out, where that is the way: two of three are 504, the third is 524."""
        private, behaviours = resource.private, self.options.behaviours
        since = private.get("ready_at", 0.0)
        if not behaviours.has("validation", "answer-lost"):
            return None
        if not behaviours.lasts("validation", private, self.clock(), since):
            return None
        private["lost"] = private.get("lost", 0) + 1
        return LostAnswerError(504 if private["lost"] % 3 else 524)

    def _landed(self, transaction: Transaction, resource: Resource) -> dict[str, StoredObject]:
        registered: dict[str, int] = resource.private["files"]
        if not registered:
            raise self._still_landing("no files have been uploaded")
        objects = transaction.objects(object_prefix(resource))
        now = self.clock()
        flat = self.options.behaviours.has("names", "flattened")  # several files, of several sizes, have that name
        missing = [
            name
            for name, size in sorted(registered.items())
            if name not in objects or (objects[name].size != size and not flat) or objects[name].landed_at > now
        ]
        if missing:
            raise self._still_landing(
                f"model files are still being uploaded: {', '.join(missing[:3])}"
                f" ({len(missing)} of {len(registered)} missing)"
            )
        return {name: objects[name] for name in registered}

    def _check(
        self, transaction: Transaction, resource: Resource, landed: dict[str, StoredObject], query: JsonObject
    ) -> list[str]:
        files = {name: UploadedFile(stored.size, self.store.read(stored)) for name, stored in landed.items()}
        for name, file in sorted(files.items()):
            if not file.size:
                raise ApiError(Code.INVALID_ARGUMENT, f"{name} is empty")
        kind = resource.body["kind"]
        if kind in ADDONS:
            self._check_addon(transaction, resource, files)
            return []
        if kind not in _BASES:
            return []
        expected = resource.body.get("baseModelDetails", {}).get("huggingfaceFiles", [])
        absent = sorted(set(expected) - set(files))
        if absent:
            raise ApiError(Code.INVALID_ARGUMENT, f"{absent[0]} is listed in huggingface_files but was not uploaded")
        skips = Skips(
            hf_config=query.get("skipHfConfigValidation", False),
            config_only=query.get("configOnly", False),
            trust_remote_code=query.get("trustRemoteCode", False),
            quantized=self.options.behaviours.has("quantized", "accepted"),
        )
        detected = base_model.check_base_model(files, skips)
        warnings = list(detected.warnings)
        # Quantized weights have other shapes, and scales beside them.
        plain = detected.config.get("quantization_config") is None
        if not skips.config_only and detected.tensors and plain:
            headless = kind == "EMBEDDING_MODEL"
            warnings += architectures.check_tensors(detected.config, detected.tensors, headless=headless)
        _fill_in(resource.body, detected)
        return warnings

    def _check_addon(self, transaction: Transaction, resource: Resource, files: dict[str, UploadedFile]) -> None:
        peft = resource.body.get("peftDetails", {})
        if not peft.get("baseModel"):
            raise ApiError(Code.INVALID_ARGUMENT, "peft_details.base_model is required")
        base = self.models.find(transaction, peft["baseModel"])
        if base.body.get("state") != "READY":
            raise ApiError(Code.FAILED_PRECONDITION, f'base model "{base.name}" is not READY')
        if not base.body.get("supportsLora"):
            raise ApiError(Code.INVALID_ARGUMENT, f'base model "{base.name}" does not support LoRA addons')
        peft["baseModelType"] = base.body.get("baseModelDetails", {}).get("modelType", "")
        peft["r"], peft["targetModules"], tensors = adapter.check_adapter(files, peft["baseModelType"])
        layers = catalogue.layers(base.id) if base.account == catalogue.ACCOUNT else 0
        architectures.check_lora(tensors, self._parameters(transaction, base), layers)
        resource.body.setdefault("contextLength", base.body.get("contextLength", 0))

    def _parameters(self, transaction: Transaction, base: Resource) -> dict[str, Tensor] | None:
        """Every tensor of an uploaded base model; None when its files are not here."""
        if "uid" not in base.private:
            return None
        found: dict[str, Tensor] = {}
        for name, stored in transaction.objects(object_prefix(base)).items():
            if name.endswith(".safetensors") and name in base.private["files"]:
                found |= read_tensors(name, UploadedFile(stored.size, self.store.read(stored)))
        return found or None


def _refuse_second(resource: Resource, way: str) -> None:
    """Refuse to sign again for a model whose URLs have been signed, where that is the way."""
    if way == "refused-409":
        raise ApiError(Code.ALREADY_EXISTS, f'model "{resource.name}" already exists')
    if way == "refused-405":
        raise ApiError(Code.UNIMPLEMENTED, "Method Not Allowed", status=405)
    if way == "refused-400":
        raise ApiError(Code.FAILED_PRECONDITION, f'upload of model "{resource.name}" has already been started')


def _check_file(kind: str, name: str, size: int, *, fireworks_json: bool) -> None:
    parts = name.split("/")
    unsafe = (
        any(part in ("", ".", "..") for part in parts)
        or "\\" in name
        or any(ord(character) < ord(" ") or ord(character) == 0x7F for character in name)  # noqa: PLR2004  # DEL
        or len(name.encode("utf-8")) > _MAX_NAME_BYTES
    )
    if unsafe:
        raise ApiError(Code.INVALID_ARGUMENT, f'invalid file name "{name[:100]}"')
    if size < 0:
        raise ApiError(Code.INVALID_ARGUMENT, f'invalid size {size} for file "{name}"')
    taken = name in adapter.ADAPTER_FILES or (fireworks_json and name == "fireworks.json")
    if kind in ADDONS and not taken:
        raise ApiError(Code.INVALID_ARGUMENT, f'unexpected file "{name}"')


def _fill_in(body: JsonObject, detected: base_model.Detected) -> None:
    details = body.setdefault("baseModelDetails", {})
    details["modelType"] = detected.model_type or details.get("modelType", "")
    details["parameterCount"] = detected.parameter_count or details.get("parameterCount", 0)
    details["defaultPrecision"] = detected.precision or "PRECISION_UNSPECIFIED"
    details.setdefault("worldSize", 1)
    details["supportsFireattention"] = details["modelType"] in LORA_TYPES
    body["contextLength"] = detected.context_length or body.get("contextLength", 0)
    body["supportsLora"] = body["kind"] == "HF_BASE_MODEL" and details["modelType"] in LORA_TYPES
    body["supportedPrecisions"] = [detected.precision] if detected.precision else []
    if detected.sampling:
        body["defaultSamplingParams"] = detected.sampling
