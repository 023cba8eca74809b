"""What `import mlflow_fireworks` gives, and what it costs."""

import subprocess
import sys

import pytest

import mlflow_fireworks
from mlflow_fireworks import errors, promotion


def public_errors(base=errors.FireworksError):
    yield base.__name__
    for error in base.__subclasses__():
        yield from public_errors(error)


def test_it_exports_every_error_and_is_sorted():
    assert mlflow_fireworks.__all__ == sorted({*public_errors(), "promote", "__version__"})


@pytest.mark.parametrize("name", mlflow_fireworks.__all__)
def test_every_exported_name_is_there(name):
    assert getattr(mlflow_fireworks, name)
    assert name in dir(mlflow_fireworks)


def test_names_are_those_of_the_inside():
    assert mlflow_fireworks.promote is promotion.promote
    assert mlflow_fireworks.FireworksError is errors.FireworksError


def test_a_name_that_is_not_exported_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mlflow_fireworks' has no attribute 'Gateway'"):
        _ = mlflow_fireworks.Gateway


def test_importing_it_loads_neither_mlflow_nor_the_hub_nor_a_client():
    program = (
        "import sys, mlflow_fireworks; mlflow_fireworks.__version__; "
        "print(sorted({'mlflow', 'huggingface_hub', 'httpx', 'pydantic'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
