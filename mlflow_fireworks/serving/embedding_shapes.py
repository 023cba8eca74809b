"""Shapes that are meant for embedding models; on others Fireworks answers wrong vectors, without an error."""

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import RefusedError
from mlflow_fireworks.gateway.serving_wire import Shape
from mlflow_fireworks.gateway.wire import Model
from mlflow_fireworks.run import Run

_WORD = "embed"


def says_embedding(*names: str) -> bool:
    """Whether one of these names says that it is for embeddings, as those in Fireworks' catalogue do."""
    return any(_WORD in name.lower() for name in names)


def find_embedding_shapes(run: Run, model: Model) -> tuple[Shape, ...]:
    """The shapes for an embedding model, the best first: what Fireworks says that fits it, else from its catalogue.

    From the catalogue come those for models of the same type, or of any where there are none, that are large enough.

    Args:
        run: The account.
        model: The embedding model.
    """
    if matched := _match(run, model):
        return matched
    details = model.base_model_details
    known = [
        shape
        for shape in run.gateway.deployments.list_shapes()
        if says_embedding(shape.name, shape.base_model)
        and (not shape.parameter_count or shape.parameter_count >= details.parameter_count)
    ]
    same_type = [shape for shape in known if shape.model_type and shape.model_type == details.model_type]
    return tuple(sorted(same_type or known, key=lambda shape: shape.parameter_count))


def _match(run: Run, model: Model) -> tuple[Shape, ...]:
    try:
        versions = run.gateway.deployments.match_shapes(model.name)
    except RefusedError:
        return ()
    shapes = [
        version.snapshot.model_copy(update={"name": version.snapshot.name or version.name.partition("/versions/")[0]})
        for version in versions
    ]
    bases = {shape.base_model for shape in shapes if not says_embedding(shape.name, shape.base_model)}
    embedding_bases = {base for base in bases if base and _is_embedding_model(run, base)}
    return tuple(
        shape for shape in shapes if says_embedding(shape.name, shape.base_model) or shape.base_model in embedding_bases
    )


def _is_embedding_model(run: Run, name: str) -> bool:
    try:
        found = run.gateway.models.find(name)
    except RefusedError:
        return False
    return found is not None and found.kind == Kind.EMBEDDING.value
