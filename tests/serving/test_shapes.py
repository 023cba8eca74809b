"""Shapes that are meant for a model, those that get lost, and vectors that cannot be right."""

import json

import pytest
from emulator.raw_client import BASE, base_files

from mlflow_fireworks.errors import ApiError, InvalidConfigError, UnexpectedAnswerError
from mlflow_fireworks.gateway.stamps import RevisionStamp
from mlflow_fireworks.serving.endpoints import create_endpoint, update_endpoint

QWEN = "accounts/fireworks/models/qwen3-8b"
SHAPES = "accounts/fireworks/deploymentShapes"
EMBEDDING_SHAPE = f"{SHAPES}/qwen3-embedding-0p6b-minimal"
EMBEDDER = BASE | {"kind": "EMBEDDING_MODEL"}
NO_MATCH = json.dumps({"deploymentShapeVersions": []})


def embedder(world, model_id="embedder"):
    world.api.ready(model_id, EMBEDDER)
    return world.gateway.models.find(model_id)


def shape_of(world, deployment="prod"):
    return world.gateway.deployments.find(deployment).deployment_shape.partition("/versions/")[0]


def matched(*shapes):
    """An answer of `:match` with shapes of these names and base models."""
    versions = [{"name": f"{name}/versions/v1", "snapshot": {"name": name, "baseModel": base}} for name, base in shapes]
    return json.dumps({"deploymentShapeVersions": versions})


def vectors(*found):
    return json.dumps({"data": [{"index": index, "embedding": vector} for index, vector in enumerate(found)]})


def test_an_embedding_model_gets_an_embedding_shape(world):
    embedder(world)
    assert create_endpoint(world.run(model="embedder"), "prod")["state"] == "READY"
    assert shape_of(world) == EMBEDDING_SHAPE
    assert not any("vectors" in warning for warning in world.told.warnings)


def test_where_nothing_matches_the_catalogue_is_searched(world):
    embedder(world)
    world.emulator.fault("match_shape_versions", status=200, body=NO_MATCH)
    create_endpoint(world.run(model="embedder"), "prod")
    assert shape_of(world) == EMBEDDING_SHAPE
    assert world.emulator.calls("list_shapes")


def test_shapes_for_generative_models_are_not_taken_for_vectors(world):
    embedder(world)
    generative = matched((f"{SHAPES}/qwen3-8b-minimal", QWEN))
    world.emulator.fault("match_shape_versions", status=200, body=generative)
    create_endpoint(world.run(model="embedder"), "prod")
    assert shape_of(world) == EMBEDDING_SHAPE


def test_a_shape_is_known_by_the_model_that_it_was_made_for(world):
    embedder(world)
    world.api.ready("bge-m3", EMBEDDER)
    body = matched((f"{SHAPES}/bge-m3-minimal", "accounts/acme/models/bge-m3"))
    world.emulator.fault("match_shape_versions", status=200, body=body)
    with pytest.raises(ApiError, match="does not exist or you do not have access"):  # the emulator has no such shape
        create_endpoint(world.run(model="embedder"), "prod")
    assert not world.emulator.calls("list_shapes")


def no_shapes(world):
    world.emulator.fault("match_shape_versions", status=200, times=9, body=NO_MATCH)
    world.emulator.fault("list_shapes", status=200, times=9, body='{"deploymentShapes": []}')


def test_without_an_embedding_shape_one_line_says_what_to_pass(world):
    embedder(world)
    no_shapes(world)
    with pytest.raises(
        InvalidConfigError, match=r"no embedding shape fits .*embedder.*deploymentShapes/NAME.*force=tr"
    ):
        create_endpoint(world.run(model="embedder"), "prod")
    assert world.emulator.calls("create_deployment") == []


def test_force_starts_it_all_the_same_with_a_warning(world):
    embedder(world)
    no_shapes(world)
    create_endpoint(world.run(model="embedder", force=True), "prod")
    assert any("it is started without one: Fireworks may return wrong vectors" in text for text in world.told.warnings)


def test_a_preset_is_looked_for_among_embedding_shapes(world):
    embedder(world)
    with pytest.raises(InvalidConfigError, match=r"no FAST embedding shape fits .*there are .*0p6b-minimal"):
        create_endpoint(world.run(model="embedder", deployment_shape="fast"), "prod")
    create_endpoint(world.run(model="embedder", deployment_shape="minimal"), "prod")
    assert shape_of(world) == EMBEDDING_SHAPE


@pytest.mark.parametrize("hardware", [{"accelerator_type": "H100"}, {"deployment_shape": f"{SHAPES}/qwen3-8b-minimal"}])
def test_hardware_that_is_named_for_vectors_is_warned_of_and_then_proven(world, hardware):
    embedder(world)
    world.emulator.behave("embeddings=silent", "shapes=dropped")
    options = {"force": True} if "deployment_shape" in hardware else {}
    with pytest.raises(UnexpectedAnswerError, match=r"two different texts get the same vector; .*prod was taken down"):
        create_endpoint(world.run(model="embedder", **hardware, **options), "prod")
    assert any("Fireworks may return wrong vectors there" in warning for warning in world.told.warnings)
    assert world.deployments() == {}


def test_a_refused_embedding_model_comes_with_the_shapes_that_fit(world):
    embedder(world)
    with pytest.raises(ApiError, match=rf"requires an embedding deployment shape.*fit.*{EMBEDDING_SHAPE}"):
        create_endpoint(world.run(model="embedder", accelerator_type="H100"), "prod")


def test_the_next_revision_leaves_hardware_that_is_not_for_vectors(world):
    embedder(world), embedder(world, "embedder-r2")
    world.emulator.behave("embeddings=silent")
    world.emulator.fault("embeddings", status=200, times=9, body=vectors([0.1, 0.2], [0.3, 0.4]))
    create_endpoint(world.run(model="embedder", accelerator_type="H100"), "prod")
    update_endpoint(world.run(model="embedder-r2"), "prod")
    assert shape_of(world, "prod-2") == EMBEDDING_SHAPE


def test_the_next_revision_keeps_an_embedding_shape(world):
    embedder(world), embedder(world, "embedder-r2")
    create_endpoint(world.run(model="embedder", deployment_shape=f"{SHAPES}/qwen3-embedding-0p6b-minimal"), "prod")
    update_endpoint(world.run(model="embedder-r2"), "prod")
    assert shape_of(world, "prod-2") == EMBEDDING_SHAPE


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (vectors([0.1, 0.2]), "not with a vector for each of 2 texts"),
        (vectors([0.1, 0.2], None), "not with a vector for each"),
        (vectors([], []), "not with a vector for each"),
        ("{}", "not with a vector for each"),
        (vectors([0.1, 0.2], [0.1, 0.2, 0.3]), r"differ in length \(2 and 3\)"),
        (vectors([0.1, float("nan")], [0.1, 0.2]), "not finite numbers"),
        (vectors([0.1, None], [0.1, 0.2]), "not finite numbers"),
        (vectors([0.1, float("inf")], [0.1, 0.2]), "not finite numbers"),
        (vectors([0.1, 0.2], [0.1, 0.2000000001]), "two different texts get the same vector"),
        (vectors([0, 0], [0, 0]), "two different texts get the same vector"),
    ],
)
def test_vectors_that_cannot_be_right_leave_the_old_ones_answering(world, body, fault):
    embedder(world), embedder(world, "embedder-r2")
    create_endpoint(world.run(model="embedder"), "prod")
    world.emulator.fault("embeddings", status=200, body=body)
    with pytest.raises(UnexpectedAnswerError, match=rf"answers, but .*{fault}.*prod still answers"):
        update_endpoint(world.run(model="embedder-r2"), "prod")
    assert world.deployments() == {"prod": "embedder"}


def stamped(world, length, model_id="embedder"):
    """An embedding model that the plugin made; its revision says how long its vectors are."""
    number = int(model_id.partition("-r")[2] or 1)
    stamp = RevisionStamp("embedder", number, "models:/embedder/1", "files", "ab", vector_length=length)
    world.api.ready(model_id, EMBEDDER | {"description": stamp.describe()}, base_files() | embedder_settings(length))


def embedder_settings(length):
    """`modules.json` and settings of a model with vectors of that length; None leaves them out."""
    if length is None:
        return {}
    modules = [{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    pooling = {"word_embedding_dimension": length, "pooling_mode_mean_tokens": True}
    return {"modules.json": json.dumps(modules).encode(), "1_Pooling/config.json": json.dumps(pooling).encode()}


WRONG_LENGTH = r"its vectors have 2 numbers, and those of the checkpoint 8: .*force=true"
SHORT = vectors([0.1, 0.2], [0.3, 0.4])


def test_vectors_of_another_length_than_the_checkpoints_are_no_answer(world):
    stamped(world, 8)
    world.emulator.fault("embeddings", status=200, body=SHORT)
    with pytest.raises(UnexpectedAnswerError, match=rf"{WRONG_LENGTH}; .*prod was taken down"):
        create_endpoint(world.run(model="embedder"), "prod")
    assert world.deployments() == {}


def test_vectors_of_another_length_are_taken_by_force_with_a_warning(world):
    stamped(world, 8)
    world.emulator.fault("embeddings", status=200, times=9, body=SHORT)
    create_endpoint(world.run(model="embedder", force=True), "prod")
    assert any("those of the checkpoint 8" in warning for warning in world.told.warnings)


def test_a_move_to_vectors_of_another_length_leaves_the_old_ones_answering(world):
    stamped(world, 8)
    create_endpoint(world.run(model="embedder"), "prod")
    stamped(world, 8, "embedder-r2")
    world.emulator.fault("embeddings", status=200, body=SHORT)
    with pytest.raises(UnexpectedAnswerError, match=rf"{WRONG_LENGTH}.*prod still answers"):
        update_endpoint(world.run(model="embedder-r2"), "prod")
    assert world.deployments() == {"prod": "embedder"}


@pytest.mark.parametrize("told", ["told", "untold"])
def test_a_move_to_a_model_with_other_vectors_is_no_fault_while_its_router_is_slow(world, told):
    """Until requests follow, those by way of the router get the vectors of the model before."""
    stamped(world, 8)
    create_endpoint(world.run(model="embedder"), "prod")
    stamped(world, 24, "embedder-r2")
    world.emulator.behave("router-changes=slow", f"answering-deployment={told}")
    update_endpoint(world.run(model="embedder-r2", routing_lag="5m"), "prod")
    assert world.deployments() == {"prod-2": "embedder-r2"}


def test_a_model_whose_length_is_not_known_is_compared_with_nothing(world):
    stamped(world, None)
    world.emulator.fault("embeddings", status=200, times=9, body=SHORT)
    create_endpoint(world.run(model="embedder"), "prod")
    assert not any("numbers" in warning for warning in world.told.warnings)


def test_a_shape_that_got_lost_is_warned_of(world):
    world.base()
    world.emulator.behave("shapes=dropped")
    create_endpoint(world.run(model=QWEN, deployment_shape=f"{SHAPES}/gpt-oss-20b-fast"), "prod")
    [warning] = [text for text in world.told.warnings if "shape" in text]
    assert (
        "requested the shape accounts/fireworks/deploymentShapes/gpt-oss-20b-fast, but Fireworks gave it none"
        in warning
    )


@pytest.mark.parametrize(
    "shape", [f"{SHAPES}/qwen3-8b-minimal", f"{SHAPES}/qwen3-8b-minimal/versions/v1", "default", "fast"]
)
def test_a_shape_that_came_back_as_its_version_is_the_one_asked_for(world, shape):
    create_endpoint(world.run(model=QWEN, deployment_shape=shape), "prod")
    assert not any("shape" in warning for warning in world.told.warnings)


def test_a_shape_lost_under_adapters_ends_it_before_the_wait(world):
    lost = {"name": "accounts/acme/deployments/prod", "baseModel": QWEN, "state": "CREATING", "enableAddons": True}
    world.emulator.fault("create_deployment", act=True, status=200, body=json.dumps(lost))
    world.emulator.fault("get_deployment", status=200, body=json.dumps(lost))
    with pytest.raises(
        UnexpectedAnswerError, match=r"gave it none .*, and adapters would be refused; .*was taken down"
    ):
        create_endpoint(world.run(model=QWEN, enable_addons=True), "prod")
    assert world.deployments() == {}
    assert world.emulator.calls("completions") == []


def test_a_create_that_does_not_say_the_shape_is_asked_again(world):
    silent = {"name": "accounts/acme/deployments/prod", "baseModel": QWEN, "state": "CREATING"}
    world.emulator.fault("create_deployment", act=True, status=200, body=json.dumps(silent))
    create_endpoint(world.run(model=QWEN, enable_addons=True), "prod")
    assert not any("shape" in warning for warning in world.told.warnings)


def test_a_lost_shape_of_an_embedding_model_ends_it_before_the_wait(world):
    embedder(world)
    world.emulator.behave("embeddings=silent", "shapes=dropped")
    shape = f"{SHAPES}/qwen3-8b-minimal"
    with pytest.raises(UnexpectedAnswerError, match=r"gave it none .*its vectors may be wrong; .*prod was taken down"):
        create_endpoint(world.run(model="embedder", deployment_shape=shape), "prod")
    assert world.emulator.calls("embeddings") == []
