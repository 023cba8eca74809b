"""A rule file that is edited while the hooks run."""

from contextlib import closing

import httpx
import pytest
from support.hooks_world import alias_event, wait_until

from mlflow_fireworks.errors import CredentialsError, InvalidConfigError
from mlflow_fireworks.hooks.jobs import Job, State, Subject
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.rule_file import RuleFile
from mlflow_fireworks.hooks.service import load_keys, load_secrets
from mlflow_fireworks.hooks.worker import Worker

CHAT = "{name: champions, model: chat, alias: champion}"
OTHER = "{name: others, model: other, alias: champion}"


def write(path, *rules):
    path.write_text("rules:\n" + "".join(f"- {rule}\n" for rule in rules))


def titles(rules):
    return [rule.title for rule in rules.current]


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "hooks.yaml", CHAT)
    return tmp_path / "hooks.yaml"


def look_twice(rules):
    return [rules.look(), rules.look()]


def test_what_the_file_has_now_counts_after_two_looks_and_the_log_says_what_changed(path, caplog):
    rules = RuleFile(path)
    assert look_twice(rules) == [False, False]
    write(path, CHAT.replace("chat", "chat-2"), OTHER)
    assert look_twice(rules) == [False, True]
    assert titles(rules) == ["champions", "others"]
    assert look_twice(rules) == [False, False]
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} was reloaded: added 'others'; changed 'champions'"
    ]


def test_a_file_that_is_half_written_at_the_first_look_is_not_taken_for_one_with_fewer_rules(path):
    write(path, CHAT, OTHER)
    rules = RuleFile(path)
    write(path, CHAT)
    assert not rules.look()
    write(path, CHAT, OTHER.replace("other", "another"))
    assert look_twice(rules) == [False, True]
    assert rules.current.find("anothers").model == "another"


def test_editors_replace_the_file_and_kubernetes_a_link_to_its_folder(tmp_path):
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
    write(tmp_path / "..1" / "hooks.yaml", CHAT)
    write(tmp_path / "..2" / "hooks.yaml", OTHER)
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "hooks.yaml"
    path.symlink_to("..data/hooks.yaml")
    rules = RuleFile(path)
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    assert look_twice(rules) == [False, True]
    assert titles(rules) == ["others"]
    write(tmp_path / "new", CHAT)
    (tmp_path / "new").replace(path)
    assert look_twice(rules) == [False, True]
    assert titles(rules) == ["champions"]


@pytest.mark.parametrize("content", ["rules: [", "rules: []", "rules:\n- {model: chat, alais: champion}\n", None])
def test_a_file_that_is_not_valid_changes_nothing_and_is_told_once_until_it_is_mended(path, content, caplog):
    rules = RuleFile(path, clock=lambda: 0.0)
    path.unlink() if content is None else path.write_text(content)
    for _ in range(3):
        look_twice(rules)
    assert titles(rules) == ["champions"]
    told = "the rule file cannot be used, so the rules of 00:00 UTC remain in force: "
    assert rules.fault.startswith(told + (f"cannot read the rules {path}" if content is None else str(path)))
    assert [record.getMessage() for record in caplog.records] == [rules.fault]
    write(path, CHAT)
    assert look_twice(rules) == [False, False]
    assert rules.fault == ""
    assert caplog.records[-1].getMessage() == f"{path} is valid again; its rules are the ones in force"


def test_rules_without_a_key_or_secret_that_they_need_wait_for_it(path, monkeypatch):
    monkeypatch.setenv("MLFLOW_FIREWORKS_WEBHOOK_SECRET", "a secret of the tests")
    monkeypatch.delenv("FIREWORKS_API_KEY", raising=False)
    write(path, "{name: champions, model: chat, alias: champion, target: 'fireworks://local'}")
    rules = RuleFile(path, lambda found: (load_secrets(found), load_keys(found)))
    write(path, CHAT)
    look_twice(rules)
    assert "FIREWORKS_API_KEY" in rules.fault
    write(path, "{hub: acme/chat, branch: main, target: 'fireworks://local'}")
    look_twice(rules)
    assert "MLFLOW_FIREWORKS_HUB_SECRET" in rules.fault
    assert titles(rules) == ["champions"]
    monkeypatch.setenv("MLFLOW_FIREWORKS_HUB_SECRET", "another")
    assert rules.look()
    assert (rules.fault, titles(rules)) == ("", ["acme/chat branch main"])


def test_a_file_that_cannot_be_used_at_the_start_ends_it(path):
    path.write_text("rules: []")
    with pytest.raises(InvalidConfigError):
        RuleFile(path)
    write(path, CHAT)
    with pytest.raises(CredentialsError):
        RuleFile(path, load_keys)


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (OTHER, "rule 'champions' is no longer in the rule file"),
        (CHAT.replace("alias: champion", "alias: prod"), "rule 'champions' no longer asks for it"),
        (CHAT.replace("}", ", target: 'fireworks:/beta'}"), "rule 'champions' no longer asks for it"),
    ],
)
def test_a_job_that_waits_for_what_no_rule_asks_for_any_more_is_superseded(path, tmp_path, new, reason):
    rules = RuleFile(path)
    job = Job(
        id="0123",
        rule="champions",
        subject=Subject(kind="alias", name="chat", ref="champion"),
        version="1",
        target="fireworks",
        deployment="chat",
    )
    with closing(open_queue(str(tmp_path / "queue.db"))) as queue:
        queue.put(job)
        write(path, new)
        look_twice(rules)
        Worker(queue, rules).work(job.id)
        found = queue.ledger.find(job.id)
    assert (found.state, found.error) == (State.SUPERSEDED, reason)


@pytest.mark.slow
def test_hooks_serve_follows_an_edited_rule_file_and_shows_one_that_it_cannot_use(fireworks, registry, hooks):
    base, path = f"http://127.0.0.1:{hooks.port}", hooks.folder / "hooks.yaml"
    valid = path.read_text()
    hooks.start("--reconcile-every", "1h")
    registry.promote(1, "prod")
    event = alias_event(registry, 1, "prod")
    assert hooks.deliver(event).json()["status"] == "ignored"
    path.write_text(valid + "- {name: prods, model: x")
    wait_until(lambda: "The rule file is not valid" in httpx.get(base).text, "the page tells", 20)
    ready = httpx.get(f"{base}/readyz")
    assert (ready.status_code, ready.json()["ok"]) == (200, True)
    assert "the rule file cannot be used" in ready.json()["reason"]
    path.write_text(valid + f"- {{name: prods, model: {registry.name}, alias: prod, deployment: '{{model}}-prod'}}\n")
    wait_until(lambda: "was reloaded: added 'prods'" in hooks.log, "the new rule counts", 20)
    assert "The rule file is not valid" not in httpx.get(base).text
    # The comparison that follows at once finds what the ignored webhook was about.
    wait_until(lambda: registry.tags(1).get("fireworks.state") == "READY", "the new rule's alias is on Fireworks")
    assert hooks.deliver(event, delivery_id="d-2").status_code == 202
    assert hooks.log.count("the rule file cannot be used") == 1


@pytest.mark.slow
def test_an_upload_whose_rule_vanishes_ends_without_moving_anything(fireworks, registry, hooks):
    path = hooks.folder / "hooks.yaml"
    fireworks.fault("put_object", stall_seconds=6)
    hooks.start("--reconcile-every", "0")
    registry.promote(1)
    hooks.deliver(alias_event(registry, 1))
    wait_until(lambda: fireworks.calls("get_upload_endpoint"), "the upload begins")
    path.write_text(f"rules:\n- {{name: others, model: {registry.name}, alias: other}}\n")
    wait_until(lambda: "is no longer in the rule file; nothing to do" in hooks.log, "the job is superseded", 60)
    assert "fireworks.deployment" not in registry.tags(1) or registry.tags(1)["fireworks.state"] != "FAILED"
