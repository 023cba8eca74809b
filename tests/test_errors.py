import click
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2

from mlflow_fireworks import errors


def all_errors(base=errors.FireworksError):
    for error in base.__subclasses__():
        yield error
        yield from all_errors(error)


ALL_ERRORS = list(all_errors())


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_mlflows_and_clicks(error):
    assert issubclass(error, MlflowException)
    assert issubclass(error, click.ClickException)
    assert databricks_pb2.ErrorCode.Name(error.code)


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.__name__)
def test_the_tree_in_the_docstring_is_complete(error):
    assert f"── {error.__name__} " in errors.__doc__


def test_the_command_line_shows_one_line(capsys):
    errors.ConflictError("taken; choose another name").show()
    assert capsys.readouterr().err == "Error: taken; choose another name\n"


def test_preflight_lists_all_problems():
    error = errors.PreflightError(["no tokenizer", "shard 2 is short"], "models:/chat/3")
    assert str(error) == "models:/chat/3 cannot be deployed, 2 problems: no tokenizer; shard 2 is short"
    assert error.error_code == "INVALID_PARAMETER_VALUE"
