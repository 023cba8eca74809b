"""How the public face is used; mypy reads this file, nobody runs it."""

from typing import Any

from typing_extensions import assert_type

from mlflow_fireworks import ApiError, FireworksError, PreflightError, RefusedError, __version__, promote


def promote_and_report() -> str:
    try:
        result = promote("models:/chat@champion", target="fireworks:/acme", endpoint="prod", config={"timeout": "1h"})
    except PreflightError as error:
        assert_type(error.problems, tuple[str, ...])
        return error.message
    except RefusedError as error:
        assert_type(error.status, int)
        assert_type(error.request_id, str | None)
        raise
    except ApiError as error:
        assert_type(error.server_message, str)
        raise
    except FireworksError as error:
        return str(error)
    assert_type(result, dict[str, Any])
    assert_type(__version__, str)
    return str(result["state"])
