"""The rule file: what it means, and what its faults are called."""

import re
from pathlib import Path

import pytest

from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.hooks.events import Event, read_hub_event, read_mlflow_event
from mlflow_fireworks.hooks.jobs import Subject
from mlflow_fireworks.hooks.receiver import plan_jobs
from mlflow_fireworks.hooks.rules import load_rules


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "hooks.yaml"
        path.write_text(text)
        return load_rules(path)

    return load


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("{model: chat}", "rule 1: name one trigger: alias, tag, version"),
        ("{model: chat, alias: a, tag: x=y}", "name one trigger: alias, tag, version (found alias, tag)"),
        ("{hub: org/x, alias: a}", "name one trigger: branch, tag (found alias)"),
        ("{alias: champion}", "name either model: (a registered model) or hub:"),
        ("{model: chat, alias: a, endpont: prod}", "endpont: is not known; did you mean 'endpoint'?"),
        ("{model: chat, tag: prod}", "tag: write KEY=VALUE"),
        ("{model: chat, tag: fireworks.state=READY}", "promotions write themselves"),
        ("{model: 'chat*', alias: a, deployment: chat}", "put {model} into it"),
        ("{model: chat, alias: '*'}", "put {alias} into it"),
        ("{model: chat, tag: stage=*}", "put {value} into it"),
        ("{hub: 'acme/*', branch: main, deployment: x}", "into it"),
        ("{model: chat, alias: a, deployment: '{nmae}'}", "{nmae} is not known"),
        ("{model: chat, alias: a, deployment: '{'}", "deployment:"),
        ("{model: chat, alias: a, target: http://x}", "not a fireworks target"),
        ("{model: chat, alias: a, config: {nonsense: 1}}", "unknown option"),
        ("{model: chat, alias: a, config: {dry_run: true}}", "dry_run cannot be used in a rule"),
        ("{model: chat, alias: a, endpoint: Not Legal}", "cannot be a Fireworks name"),
        ("{model: chat, alias: a, endpoint: '{nmae}'}", "endpoint: {nmae} is not known"),
        ("{model: chat, alias: a, endpoint: '{version}'}", "endpoint: {version} would start GPUs for each version"),
        (
            "{model: chat, alias: a, config: {min_replicas: 1}}",
            "config: min_replicas is an endpoint option; add endpoint:",
        ),
        ("{model: chat, alias: a, when_removed: release}", "needs endpoint"),
        ("{model: chat, alias: a, when_removed: vanish}", "when_removed"),
        ("{model: chat, alias: a, deployment: 'v-{version}', when_removed: delete}", "all of them are kept"),
        ("{hub: gpt2, branch: main}", "write OWNER/REPO"),
        ("{hub: '*/chat', branch: main, deployment: '{owner}'}", "only REPO may be a glob"),
        ("{model: chat, alias: a, concurrency: 0}", "concurrency"),
        ("{model: chat, alias: a, max_endpoints: 2}", "max_endpoints: needs endpoint:"),
        ("{model: chat, alias: a, max_price_per_hour: 20}", "max_price_per_hour: needs endpoint:"),
        ("{model: chat, alias: a, endpoint: prod, max_endpoints: 0}", "max_endpoints"),
        ("{model: chat, alias: a, endpoint: prod, max_price_per_hour: .inf}", "max_price_per_hour"),
    ],
)
def test_faults_are_named(load, rule, told):
    with pytest.raises(InvalidConfigError) as caught:
        load(f"rules:\n- {rule}\n")
    assert told in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["", "rules: []", "rules: [", "[]", "rules:\n- 3"])
def test_a_file_without_rules_is_refused(load, text):
    with pytest.raises(InvalidConfigError, match=r"hooks\.yaml"):
        load(text)


def test_two_rules_of_one_name_are_refused(load):
    with pytest.raises(InvalidConfigError, match="two rules are called 'chat alias a'"):
        load("rules:\n- {model: chat, alias: a}\n- {model: chat, alias: a}\n")


@pytest.mark.parametrize(
    "other",
    [
        "{model: chat, alias: b}",
        "{model: chat, tag: stage=prod}",
        "{hub: acme/chat, branch: main}",
        "{model: x, alias: b, deployment: chat}",
    ],
)
def test_two_rules_that_would_overwrite_each_other_are_refused(load, other):
    with pytest.raises(InvalidConfigError, match=r"'chat alias a' and '.*' lead to the same deployment"):
        load(f"rules:\n- {{model: chat, alias: a}}\n- {other}\n")
    load(f"rules:\n- {{model: chat, alias: a}}\n- {other[:-1]}, target: 'fireworks:/other'}}\n")


def jobs_for(rules, subject, version="7", **event):
    return plan_jobs(rules, Event("d", Subject.model_validate(subject), version, **event))


def test_names_are_made_from_what_happened_and_are_legal(load):
    names = "deployment: '{model}-{alias}', endpoint: '{model}_prod'"
    rules = load(f"rules:\n- {{model: 'Chat*', alias: '*', {names}, target: 'fireworks:/acme'}}\n")
    (job,) = jobs_for(rules, {"kind": "alias", "name": "Chat_7B", "ref": "Champion"})
    assert (job.deployment, job.target, job.version) == ("chat-7b-champion", "fireworks:/acme", "7")
    assert job.endpoint == "chat-7b-prod"
    assert jobs_for(rules, {"kind": "alias", "name": "other", "ref": "champion"}) == []


def test_a_tag_and_a_new_version_are_triggers(load):
    rules = load(
        "rules:\n- {model: chat, tag: 'stage=prod*', deployment: '{model}-{value}'}\n"
        "- {model: chat, version: created, deployment: 'v-{version}'}\n"
    )
    assert jobs_for(rules, {"kind": "tag", "name": "chat", "ref": "stage=prod-eu"})
    assert not jobs_for(rules, {"kind": "tag", "name": "chat", "ref": "stage=dev"})
    (job,) = jobs_for(rules, {"kind": "version", "name": "chat"})
    assert (job.deployment, job.subject.ref) == ("v-7", "7")


def test_a_removed_alias_does_what_the_rule_says(load):
    rules = load("rules:\n- {model: chat, alias: a, when_removed: delete}\n- {model: chat, alias: b, deployment: b}\n")
    (job,) = jobs_for(rules, {"kind": "alias", "name": "chat", "ref": "a"}, "", removed=True)
    assert job.action == "remove"
    assert not jobs_for(rules, {"kind": "alias", "name": "chat", "ref": "b"}, "", removed=True)


def test_the_hubs_pushes_are_read_and_pull_requests_passed_over():
    body = b"""{"event": {"action": "update", "scope": "repo.content"}, "repo": {"type": "model", "name": "org/x"},
      "updatedRefs": [{"ref": "refs/heads/main", "oldSha": "a", "newSha": "b"},
                      {"ref": "refs/tags/prod", "oldSha": null, "newSha": "b"},
                      {"ref": "refs/tags/gone", "oldSha": "b", "newSha": null},
                      {"ref": "refs/pr/1", "oldSha": null, "newSha": "c"}], "webhook": {"id": "w", "version": 3}}"""
    events = read_hub_event(body)
    assert [(str(event.subject), event.version, event.removed) for event in events] == [
        ("hf:/org/x@main", "b", False),
        ("hf:/org/x@prod", "b", False),
        ("hf:/org/x@gone", "", True),
    ]
    assert [event.id for event in read_hub_event(body)] == [event.id for event in events]


def test_tags_that_promotions_write_are_no_events():
    body = b'{"entity":"model_version_tag","action":"set","data":{"name":"m","version":"1","key":"%s","value":"x"}}'
    assert read_mlflow_event(body % b"fireworks.state", "d") == []
    assert read_mlflow_event(body % b"stage", "d")[0].subject.ref == "stage=x"


def rule_files():
    """What the documentation shows: rules without GPUs, and those that start some."""
    root = Path(__file__).parents[2]
    pages = {name: root / name for name in ("README.md", "examples/hooks/README.md")}
    blocks = {
        f"{name} {number}": block
        for name, page in pages.items()
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
    }
    examples = {
        str(path.relative_to(root)): path.read_text(encoding="utf-8")
        for path in root.glob("examples/hooks/**/hooks.yaml")
    }
    plain = {name: text for name, text in blocks.items() if "endpoint:" not in text}
    return {**plain, **examples}, {
        **{name: text for name, text in blocks.items() if name not in plain},
        "examples": re.sub(
            r"^    # (endpoint|max_\w+):", r"    \1:", examples["examples/hooks/hooks.yaml"], flags=re.MULTILINE
        ),
    }


@pytest.mark.parametrize("text", rule_files()[0].values(), ids=rule_files()[0])
def test_rules_that_are_copied_from_the_documentation_start_no_gpus(load, text):
    assert [rule.endpoint for rule in load(text)] == [None] * len(load(text).rules)


@pytest.mark.parametrize("text", rule_files()[1].values(), ids=rule_files()[1])
def test_rules_of_the_documentation_that_start_gpus_have_limits(load, text):
    rule = next(iter(load(text)))
    assert (rule.endpoint, rule.max_endpoints, rule.max_price_per_hour) == ("{model}-prod", 3, 30)


def test_a_file_that_says_rule_instead_of_rules_says_so(tmp_path):
    path = tmp_path / "hooks.yaml"
    path.write_text("rule:\n  - {model: chat, alias: a}\n", encoding="utf-8")
    with pytest.raises(InvalidConfigError, match=r"hooks\.yaml: missing 'rules' \(found 'rule'\)$"):
        load_rules(path)
