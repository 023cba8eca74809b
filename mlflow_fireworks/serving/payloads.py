"""What users give to `predict`, as questions to a model.

From Python: a payload of the OpenAI shape, a string, a list of strings, of messages, of chats or of payloads, a
DataFrame. From the `mlflow` command: what `pandas.read_json` makes of a file, which takes payloads apart (MLflow 3.17,
deployments/cli.py); they are put together again here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.serving.inference import CHAT, COMPLETIONS, EMBEDDINGS, Question

# One request for several texts; each row by itself would cost a round trip.
_TEXTS_PER_REQUEST = 32
# The field that makes a payload what it is.
_OPERATIONS = {"messages": CHAT, "prompt": COMPLETIONS, "input": EMBEDDINGS}
_SHAPES = (
    "a payload with messages, prompt or input; a string; a list of strings, messages, chats or payloads; or a table "
    "with a column messages, prompt or input, with the columns role and content, or with one column of texts"
)


@dataclass(frozen=True)
class Questions:
    """What is to be asked.

    Args:
        questions: In the order of the rows.
        rows: How many rows the user gave.
        is_single: The user gave one payload, so its whole answer is wanted.
    """

    questions: tuple[Question, ...]
    rows: int
    is_single: bool = False


def read_inputs(inputs: Any, *, embeds: bool) -> Questions:
    """Make questions out of what `predict` was given.

    Args:
        inputs: As the module's description says.
        embeds: The model makes embeddings, so plain texts are embedded and not answered.

    Raises:
        InvalidConfigError: It is none of these.
    """
    if hasattr(inputs, "columns") and hasattr(inputs, "to_dict"):
        return _read_table(_rows_of(inputs), embeds=embeds)
    if hasattr(inputs, "tolist"):
        inputs = inputs.tolist()
    if isinstance(inputs, str):
        return Questions(tuple(_ask_texts([inputs], embeds=embeds)), 1)
    if isinstance(inputs, Mapping):
        return _read_mapping(inputs, embeds=embeds)
    if isinstance(inputs, Sequence) and inputs:
        return _read_list(list(inputs), embeds=embeds)
    raise _unreadable(type(inputs).__name__ if inputs else "nothing")


def _read_mapping(inputs: Mapping[str, Any], *, embeds: bool) -> Questions:
    if set(inputs) & set(_OPERATIONS):
        return Questions((_read_payload(inputs, 0),), 1, is_single=True)
    split = inputs.get("dataframe_split")
    if isinstance(split, Mapping) and "columns" in split and "data" in split:
        return _read_table([dict(zip(split["columns"], row, strict=False)) for row in split["data"]], embeds=embeds)
    for wrapper in ("dataframe_records", "inputs", "instances"):
        if wrapper in inputs:
            return read_inputs(inputs[wrapper], embeds=embeds)
    raise _unreadable(f"a dict with {', '.join(map(str, inputs)) or 'nothing'}")


def _read_list(items: list[Any], *, embeds: bool) -> Questions:
    if all(isinstance(item, str) for item in items):
        return Questions(tuple(_ask_texts(items, embeds=embeds)), len(items))
    if all(isinstance(item, Mapping) for item in items):
        return _read_table(items, embeds=embeds)
    if all(_is_chat(item) for item in items):
        return Questions(
            tuple(Question(CHAT, {"messages": item}, (row,)) for row, item in enumerate(items)), len(items)
        )
    raise _unreadable(f"a list of {', '.join(sorted({type(item).__name__ for item in items}))}")


def _read_table(rows: Sequence[Mapping[str, Any]], *, embeds: bool) -> Questions:
    """Rows with names, be they payloads, messages, one payload that was taken apart, or texts."""
    rows = [_without_gaps(row) for row in rows]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not rows or not columns:
        raise _unreadable("an empty table")
    if "role" in columns and not set(columns) & set(_OPERATIONS):
        return Questions((Question(CHAT, {"messages": rows}),), 1, is_single=True)
    if all(isinstance(row.get("messages"), Mapping) for row in rows):
        together = {**rows[0], "messages": [row["messages"] for row in rows]}
        return Questions((_read_payload(together, 0),), 1, is_single=True)
    if set(columns) & set(_OPERATIONS):
        return Questions(tuple(_read_payload(row, number) for number, row in enumerate(rows)), len(rows))
    if len(columns) == 1:
        return _read_list([row.get(columns[0], "") for row in rows], embeds=embeds)
    raise _unreadable(f"a table with the columns {', '.join(map(str, columns))}")


def _rows_of(table: Any) -> list[dict[str, Any]]:
    """The rows of a DataFrame; a table that MLflow's scoring format wraps in one column is unwrapped."""
    columns = [str(name) for name in table.columns]
    if columns == ["dataframe_split"]:
        split = table["dataframe_split"].to_dict()
        if "columns" in split and "data" in split:
            return [dict(zip(split["columns"], row, strict=False)) for row in split["data"]]
    rows: list[dict[str, Any]] = [{str(name): cell for name, cell in row.items()} for row in table.to_dict("records")]
    if (
        len(columns) == 1
        and all(isinstance(row[columns[0]], Mapping) for row in rows)
        and columns[0] not in _OPERATIONS
    ):
        return [dict(row[columns[0]]) for row in rows]
    return rows


def _read_payload(payload: Mapping[str, Any], row: int) -> Question:
    field = next((name for name in _OPERATIONS if payload.get(name) is not None), None)
    if field is None:
        raise _unreadable(f"row {row} has none of messages, prompt and input")
    body = {name: value for name, value in payload.items() if name not in ("model", "stream")}
    return Question(_OPERATIONS[field], body, (row,))


def _ask_texts(texts: Sequence[str], *, embeds: bool) -> Iterator[Question]:
    if embeds:
        for start in range(0, len(texts), _TEXTS_PER_REQUEST):
            part = list(texts[start : start + _TEXTS_PER_REQUEST])
            yield Question(EMBEDDINGS, {"input": part}, tuple(range(start, start + len(part))))
        return
    for row, text in enumerate(texts):
        yield Question(CHAT, {"messages": [{"role": "user", "content": text}]}, (row,))


def _is_chat(item: object) -> bool:
    return isinstance(item, list) and bool(item) and all(isinstance(part, Mapping) for part in item)


def _without_gaps(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without the NaN of absent cells, and with the integers that those had made floats."""
    kept: dict[str, Any] = {}
    for name, value in row.items():
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        kept[str(name)] = int(value) if isinstance(value, float) and value.is_integer() else value
    return kept


def _unreadable(what: str) -> InvalidConfigError:
    return InvalidConfigError(f"predict cannot read {what}; it accepts {_SHAPES}")
