"""The README's generated parts. `python tests/test_readme.py` writes them."""

import re
from pathlib import Path

from mlflow_fireworks.config import Config, option_table
from mlflow_fireworks.endpoint_config import EndpointConfig

README = Path(__file__).parent.parent / "README.md"
TABLES = {"options": Config, "endpoint options": EndpointConfig}


def with_current_options(text):
    for name, table in TABLES.items():
        part = re.compile(rf"(<!-- {name}:.*?-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        found = part.search(text)
        text = text.replace(found[0], f"{found[1]}{markdown(table)}\n{found[2]}")
    return text


def markdown(table):
    rows = [
        f"| `{name}` | {kind.replace('|', ' / ')} | {default} | {text} |"
        for name, kind, default, text in option_table(table)
    ]
    return "\n".join(["| option | type | default | what it does |", "| --- | --- | --- | --- |", *rows])


def test_the_option_table_is_current():
    text = README.read_text(encoding="utf-8")
    assert with_current_options(text) == text


if __name__ == "__main__":
    README.write_text(with_current_options(README.read_text(encoding="utf-8")), encoding="utf-8")
