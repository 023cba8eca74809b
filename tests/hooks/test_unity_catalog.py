"""A registry that sends no webhooks, Databricks' Unity Catalog, is followed by looking. A stand-in answers."""

import json
import os

import pytest
from support.checkpoints import make_llama, read_files
from support.hooks_world import SECRET, Hooks, wait_until
from support.threaded_server import serving
from support.unity_catalog import TOKEN, Model, UnityCatalog, Version, Workspace

from mlflow_fireworks.plugin import FireworksDeploymentClient

CHAT, SEARCH = "main.prod.chat", "main.prod.search"
OTHERS = ["main.dev.chat", "main.prod.alone", "main.prod.embed"]  # more than a page of them


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    folders = [make_llama(tmp_path_factory.mktemp("m") / "llama", seed=seed) for seed in range(3)]
    return [read_files(folder) for folder in folders]


@pytest.fixture
def catalog(contents):
    catalog = UnityCatalog("signed")
    for name in (CHAT, SEARCH, *OTHERS):
        catalog.models[name] = Model([Version(files=files) for files in contents])
    with serving(Workspace, catalog=catalog) as catalog.url:
        yield catalog


@pytest.fixture
def hooks(fireworks, catalog, tmp_path):
    hooks = Hooks(tmp_path, os.environ | catalog.environ | {"MLFLOW_FIREWORKS_WEBHOOK_SECRET": SECRET})
    yield hooks
    hooks.close()
    assert TOKEN not in hooks.log
    assert "signature=" not in hooks.log


def write_rules(hooks, *rules):
    (hooks.folder / "hooks.yaml").write_text("rules:\n" + "".join(f"- {rule}\n" for rule in rules))


def where():
    """Which version each deployment holds, of those that are READY."""
    found = FireworksDeploymentClient("fireworks").list_deployments()
    return {item["name"]: item["source"] for item in found if item["state"] == "READY"}


@pytest.mark.slow
def test_aliases_tags_and_new_versions_are_followed(catalog, hooks):
    write_rules(
        hooks,
        "{name: champions, model: 'main.prod.*', alias: champion}",
        f"{{name: exact, model: {CHAT}, alias: next, deployment: next}}",
        "{name: absent, model: main.prod.gone, alias: champion}",
        "{name: tagged, model: 'main.prod.se*', tag: stage=prod, deployment: 'tagged-{model}'}",
        "{name: newest, model: main.prod.alone, version: created, deployment: newest}",
    )
    catalog.point(CHAT, "champion", 1)
    catalog.point(SEARCH, "champion", 2)
    catalog.point("main.dev.chat", "champion", 2)  # no rule applies to it
    catalog.point(CHAT, "next", 3)
    catalog.tags(SEARCH, 1)["stage"] = "prod"
    hooks.start("--reconcile-every", "1s", "--retry-after", "0.5s")
    first = {
        "main-prod-chat": f"models:/{CHAT}/1",
        "main-prod-search": f"models:/{SEARCH}/2",
        "next": f"models:/{CHAT}/3",
        "tagged-main-prod-search": f"models:/{SEARCH}/1",
        "newest": "models:/main.prod.alone/3",
    }
    wait_until(lambda: where() == first, "all is where it points")
    wait_until(lambda: catalog.tags(CHAT, 1).get("fireworks.state") == "READY", "the tags are written")

    catalog.point(CHAT, "champion", 2)
    catalog.tags(SEARCH, 2)["stage"] = "prod"
    moved = first | {"main-prod-chat": f"models:/{CHAT}/2", "tagged-main-prod-search": f"models:/{SEARCH}/2"}
    wait_until(lambda: where() == moved, "all is where it points now")
    wait_until(lambda: catalog.tags(CHAT, 2).get("fireworks.state") == "READY", "the tags are written")
    assert catalog.tags(CHAT, 2)["fireworks.deployment"] == "main-prod-chat"


@pytest.mark.slow
def test_moved_endpoint_is_taken_off_the_tags_of_the_version_that_had_it(catalog, hooks, fireworks):
    write_rules(hooks, f"{{name: champions, model: {CHAT}, alias: champion, deployment: chat, endpoint: prod}}")
    catalog.point(CHAT, "champion", 1)
    hooks.start("--yes", "--reconcile-every", "1s", "--retry-after", "0.5s")
    wait_until(lambda: catalog.tags(CHAT, 1).get("fireworks.endpoint") == "prod", "version 1 is served")
    catalog.point(CHAT, "champion", 2)
    wait_until(lambda: catalog.tags(CHAT, 2).get("fireworks.endpoint") == "prod", "version 2 is served")
    wait_until(lambda: "fireworks.endpoint" not in catalog.tags(CHAT, 1), "version 1 does not say so any more")
    assert "did not accept the tags" not in hooks.log


@pytest.mark.slow
def test_alias_that_is_gone_removes_what_the_rule_says(catalog, hooks):
    write_rules(hooks, f"{{name: brief, model: {CHAT}, alias: champion, deployment: chat, when_removed: delete}}")
    catalog.point(CHAT, "champion", 1)
    hooks.start("--reconcile-every", "1s", "--retry-after", "0.5s")
    wait_until(lambda: where() == {"chat": f"models:/{CHAT}/1"}, "version 1 is READY")
    del catalog.models[CHAT].aliases["champion"]
    wait_until(lambda: where() == {}, "it is gone")
    wait_until(lambda: catalog.tags(CHAT, 1).get("fireworks.state") == "DELETED", "the tags tell it")


@pytest.mark.slow
def test_check_shows_the_registry_and_a_refused_token_in_one_line(catalog, hooks):
    write_rules(hooks, "{name: champions, model: 'main.prod.*', alias: champion}")
    catalog.point(CHAT, "champion", 1)
    rules = ["--rules", str(hooks.folder / "hooks.yaml"), "--json"]
    shown = hooks.command("reconcile", *rules)
    assert [job["version"] for job in json.loads(shown.stdout)] == ["1"]
    hooks.environ["DATABRICKS_TOKEN"] = "another"
    refused = hooks.command("reconcile", *rules)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "the registry did not list its models" in refused.stderr
