"""A remote store, named `store` by the module that uses these, opened as a source."""

import pytest
from support.source_world import Remembers

from mlflow_fireworks.artifacts.sources.resolve import open_source


@pytest.fixture
def reporter():
    return Remembers()


@pytest.fixture
def source(store, reporter, tmp_path):
    opened = open_source(store.url, reporter=reporter, workspace=tmp_path)
    yield opened
    opened.store.close()
