"""The deployment examples, run as they stand until a model is READY: Compose, Kubernetes and systemd."""

import re
import shutil
import subprocess
import sys
import time
from ipaddress import ip_address, ip_network
from pathlib import Path
from secrets import token_hex

import httpx
import kubernetes_validate
import mlflow
import pytest
import yaml
from support.checkpoints import make_llama
from support.containers import (
    POSTGRES,
    REDIS,
    REPOSITORY,
    Compose,
    Container,
    Image,
    find_obstacle,
    private_network,
    read_seconds,
)
from support.hooks_world import Registry, alias_event, answers, wait_until

from mlflow_fireworks.hooks.receiver import sign
from mlflow_fireworks.hooks.rules import load_rules

EXAMPLES = REPOSITORY / "examples" / "hooks"
COMPOSE = EXAMPLES / "compose" / "compose.yaml"
KUBERNETES = EXAMPLES / "kubernetes"
UNIT = EXAMPLES / "systemd" / "mlflow-fireworks-hooks.service"
IMAGE = Image.read(EXAMPLES / "compose" / "Dockerfile")
RECEIVER = "http://127.0.0.1:8765"
ACCOUNT = {"FIREWORKS_ACCOUNT_ID": "acme"}
SECRETS = {
    "FIREWORKS_API_KEY": "fw_key",
    "MLFLOW_FIREWORKS_WEBHOOK_SECRET": token_hex(),
    "MLFLOW_FIREWORKS_HOOKS_TOKEN": token_hex(),
}


@pytest.fixture(scope="module")
def network():
    """The ports of the examples are free in here."""
    if obstacle := find_obstacle("redis-server", "initdb"):
        pytest.skip(obstacle)
    with private_network():
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder with a registry in a SQLite file, which needs no server: two versions of the model chat."""
    folder = tmp_path_factory.mktemp("registry")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    client.create_registered_model("chat")
    for seed in range(2):
        client.create_model_version("chat", make_llama(folder / f"llama-{seed}", seed=seed).as_uri())
    return folder


def fill_in(file):
    """The variables of an environment file; its comments say how each secret is made."""
    text = file.read_text()
    made = re.findall(r"Generate with: (.+)\n(\w+)=$", text, re.MULTILINE)
    secrets = {name: subprocess.check_output(["sh", "-c", command], text=True).strip() for command, name in made}
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)) | secrets


def outcome(client, version):
    return client.get_model_version("chat", str(version)).tags.get("fireworks.state")


@pytest.mark.slow
def test_a_promotion_under_compose_outlives_the_worker_that_does_it(network, fireworks, tmp_path):
    variables = fill_in(COMPOSE.with_name(".env.example")) | ACCOUNT
    images = {"postgres:16": POSTGRES, "redis:7": REDIS, "mlflow-fireworks": IMAGE}
    environ = {"FIREWORKS_BASE_URL": fireworks.url}
    compose = Compose(COMPOSE, variables, images, environ, tmp_path, secrets=SECRETS)
    try:
        compose.up()
        (register,) = compose.containers["register"]
        assert register.process.wait(60) == 0, register.read_log()
        assert answers(f"{RECEIVER}/readyz")

        client = mlflow.MlflowClient("http://127.0.0.1:5000")
        run_id = client.create_run(client.create_experiment("chat")).info.run_id
        client.log_artifacts(run_id, str(make_llama(tmp_path / "llama")), "model")
        client.create_registered_model("chat")
        client.create_model_version("chat", f"runs:/{run_id}/model", run_id)
        fireworks.fault("put_object", stall_seconds=3, times=2)
        client.set_registered_model_alias("chat", "champion", "1")

        wait_until(lambda: fireworks.calls("get_upload_endpoint"), "a worker uploads")
        (busy,) = [worker for worker in compose.containers["worker"] if "chat: [" in worker.read_log()]
        busy.kill()
        wait_until(lambda: outcome(client, 1) == "READY", "the other worker has finished it")
        assert client.get_model_version("chat", "1").tags["fireworks.model"] == "accounts/acme/models/chat"
        (job,) = wait_until(lambda: httpx.get(f"{RECEIVER}/status.json").json()["promoted"], "the page tells")
        assert (job["cause"], job["crashes"]) == ("webhook", 1)
    finally:
        compose.down()


def test_the_compose_file_is_what_compose_takes():
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_compose_publishes_ports_on_loopback_only_and_asks_for_what_env_example_names():
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:5000:5000", "127.0.0.1:8765:8765"]
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    assert used == set(fill_in(COMPOSE.with_name(".env.example")))


@pytest.mark.parametrize("service", ["postgres", "redis", "mlflow", "hooks", "worker", "register"])
def test_no_service_of_compose_can_do_more_than_it_must(service):
    found = yaml.safe_load(COMPOSE.read_text())["services"][service]
    assert found["read_only"]
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["mem_limit"]
    assert found["pids_limit"]
    assert not found.keys() & {"privileged", "cap_add", "network_mode", "pid"}
    if service in ("postgres", "redis"):
        assert found["user"] == service  # the other image is made for a user of its own
    else:
        assert IMAGE.user == 10001


def test_only_workers_hold_a_key_of_fireworks_under_compose():
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    holders = [name for name, service in services.items() if "FIREWORKS_API_KEY" in service.get("secrets", [])]
    assert holders == ["worker"]


def test_no_secret_of_the_hooks_is_in_an_environment():
    """The three that Compose has in its `.env` are those that MLflow, Postgres and Redis read nowhere else."""
    compose = yaml.safe_load(COMPOSE.read_text())
    deployments = [read_manifests(file)[0] for file in ("receiver.yaml", "workers.yaml")]
    containers = [container for item in deployments for container in item["spec"]["template"]["spec"]["containers"]]
    variables = {name for service in compose["services"].values() for name in service.get("environment", {})}
    variables |= {
        line.partition("=")[0]
        for item in read_kustomization()["configMapGenerator"]
        for line in item.get("literals", [])
    }
    variables |= set(fill_in(UNIT.with_suffix(".env")))
    assert not variables & SECRETS.keys()
    assert all("env" not in container for container in containers)
    assert [reference for container in containers for reference in container["envFrom"]] == [
        {"configMapRef": {"name": "hooks-settings"}}
    ] * 2
    loaded = {value.partition(":")[0] for value in read_unit()["LoadCredential"]}
    assert loaded == compose["secrets"].keys() == SECRETS.keys()


@pytest.mark.parametrize("file", ["receiver.yaml", "workers.yaml"])
def test_no_pod_can_do_more_than_it_must(file):
    pod = read_manifests(file)[0]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"].keys() == {"cpu", "memory", "ephemeral-storage"}
    (mounted,) = [volume["projected"] for volume in pod["volumes"] if "projected" in volume]
    secrets = [source["secret"]["name"] for source in mounted["sources"]]
    assert ("hooks-fireworks" in secrets) == (file == "workers.yaml")
    # The files are root's; the group of the pod may read them.
    assert (mounted["defaultMode"], pod["securityContext"]["fsGroup"]) == (0o440, IMAGE.user)


def test_the_network_lets_in_webhooks_only_and_keeps_out_of_the_clouds_credentials():
    both, receiver = read_manifests("network.yaml")
    deployments = [read_manifests(file)[0] for file in ("receiver.yaml", "workers.yaml")]
    (chosen,) = both["spec"]["podSelector"]["matchExpressions"]
    assert chosen["values"] == [deployment["metadata"]["name"] for deployment in deployments]
    assert "ingress" not in both["spec"]
    assert both["spec"]["policyTypes"] == ["Ingress", "Egress"]
    (entry,) = receiver["spec"]["ingress"]
    (container,) = deployments[0]["spec"]["template"]["spec"]["containers"]
    assert [port["port"] for port in entry["ports"]] == [port["name"] for port in container["ports"]]
    reached = [place["ipBlock"] for rule in both["spec"]["egress"] for place in rule.get("to", [])]
    for address in map(ip_address, ("169.254.169.254", "fd00:ec2::254")):
        blocks = [block for block in reached if address in ip_network(block["cidr"])]
        assert blocks
        assert all(any(address in ip_network(net) for net in block["except"]) for block in blocks)


def read_manifests(*files):
    return [manifest for file in files for manifest in yaml.safe_load_all((KUBERNETES / file).read_text())]


def read_kustomization():
    (kustomization,) = read_manifests("kustomization.yaml")
    return kustomization


def make_pod(deployment, secrets, environ, store, folder):
    """One pod of a deployment, as the kubelet makes it, that can also read the registry."""
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsUser"] == IMAGE.user
    generators = {generator["name"]: generator for generator in read_kustomization()["configMapGenerator"]}
    sources = {}
    for volume in pod["volumes"]:
        source = sources[volume["name"]] = folder / deployment["metadata"]["name"] / volume["name"]
        source.mkdir(parents=True)
        if "configMap" in volume:
            for file in generators[volume["configMap"]["name"]]["files"]:
                shutil.copy(KUBERNETES / file, source)
        for projected in volume.get("projected", {}).get("sources", []):
            for name, value in secrets[projected["secret"]["name"]].items():
                (source / name).write_text(value)
    for reference in container["envFrom"]:
        settings = generators[reference["configMapRef"]["name"]]["literals"]
        environ = dict(line.split("=", 1) for line in settings) | environ
    mounts = container["volumeMounts"]
    return Container(
        IMAGE,
        folder / f"{deployment['metadata']['name']}.log",
        command=container["command"],
        environ=environ,
        mounts={mount["mountPath"]: sources[mount["name"]] for mount in mounts} | {str(store): store},
        writable=[str(store), *(mount["mountPath"] for mount in mounts if not mount.get("readOnly"))],
        read_only=container["securityContext"]["readOnlyRootFilesystem"],
    )


@pytest.mark.slow
def test_pods_on_kubernetes_answer_their_probes_promote_and_end_in_time(network, fireworks, redis_url, store, tmp_path):
    values = SECRETS | {"MLFLOW_FIREWORKS_QUEUE": redis_url}
    secrets = {
        secret["metadata"]["name"]: {name: values[name] for name in secret["stringData"]}
        for secret in read_manifests("secret.example.yaml")
    }
    manifests = read_manifests(*read_kustomization()["resources"])
    deployments = [manifest for manifest in manifests if manifest["kind"] == "Deployment"]
    tracking_uri = f"sqlite:///{store}/mlflow.db"
    environ = ACCOUNT | {"FIREWORKS_BASE_URL": fireworks.url, "MLFLOW_TRACKING_URI": tracking_uri}
    pods = [make_pod(deployment, secrets, environ, store, tmp_path) for deployment in deployments]
    (receiver,) = deployments[0]["spec"]["template"]["spec"]["containers"]

    def answers_probe(name):
        probe = receiver[name]["httpGet"]
        (port,) = [port["containerPort"] for port in receiver["ports"] if port["name"] == probe["port"]]
        return answers(f"http://127.0.0.1:{port}{probe['path']}")

    try:
        for pod in pods:
            pod.start()
        startup = receiver["startupProbe"]
        limit = startup["periodSeconds"] * startup["failureThreshold"]
        pods[0].wait_until(lambda: answers_probe("startupProbe"), "the receiver has started", limit)
        assert answers_probe("livenessProbe")
        assert answers_probe("readinessProbe")

        client = mlflow.MlflowClient(tracking_uri)
        client.set_registered_model_alias("chat", "champion", "1")
        body, now = alias_event(Registry(client, "", "chat"), 1), str(int(time.time()))
        signature = sign(SECRETS["MLFLOW_FIREWORKS_WEBHOOK_SECRET"], "d-1", now, body)
        headers = {"X-MLflow-Delivery-Id": "d-1", "X-MLflow-Timestamp": now, "X-MLflow-Signature": signature}
        assert httpx.post(f"{RECEIVER}/webhooks/mlflow", content=body, headers=headers).status_code == 202
        wait_until(lambda: outcome(client, 1) == "READY", "version 1 is READY")

        for pod, deployment in zip(pods, deployments, strict=True):
            assert pod.stop(deployment["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)) == 0
    finally:
        for pod in pods:
            pod.kill()


def test_manifests_are_what_kubernetes_takes():
    manifests = read_manifests(*read_kustomization()["resources"], "secret.example.yaml")
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.37", strict=True)
    kinds = {manifest["kind"]: manifest for manifest in manifests}
    assert kinds["Service"]["spec"]["selector"] == manifests[0]["spec"]["template"]["metadata"]["labels"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_builds_the_manifests():
    built = subprocess.run(["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, check=True)
    for manifest in yaml.safe_load_all(built.stdout):
        kubernetes_validate.validate(manifest, "1.37", strict=True)
        assert manifest["metadata"]["namespace"] == "mlflow-fireworks"


def test_both_rule_files_say_the_same_but_for_the_disk():
    (of_all,), (of_pods,) = load_rules(EXAMPLES / "hooks.yaml"), load_rules(KUBERNETES / "hooks.yaml")
    assert of_pods.config == {"max_disk": "50GB"}
    assert of_pods.model_copy(update={"config": {}}) == of_all


def read_unit():
    """The settings of the unit, each with all of its values."""
    text = UNIT.read_text().replace("%S", "/var/lib").replace("%C", "/var/cache")
    settings = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        settings.setdefault(name, []).append(value)
    return settings


def make_service(environ, mounts, folder):
    """The unit's process; this Python environment is what was installed in /opt."""
    unit = read_unit()
    folders = {
        f"/var/{place}/{unit[setting][0]}": folder / place
        for place, setting in {"lib": "StateDirectory", "cache": "CacheDirectory"}.items()
    }
    for path in folders.values():
        path.mkdir()
    own = dict(word.split("=", 1) for line in unit["Environment"] for word in line.split())
    credentials = folder / "credentials"
    credentials.mkdir()
    for name in (value.partition(":")[0] for value in unit["LoadCredential"]):
        (credentials / name).write_text(SECRETS[name])
    own["CREDENTIALS_DIRECTORY"] = f"/run/credentials/{UNIT.name}"
    installed = {
        "/opt/mlflow-fireworks": Path(sys.prefix),
        "/etc/mlflow-fireworks/hooks.yaml": EXAMPLES / "hooks.yaml",
    }
    return Container(
        Image(own, 60000, unit["WorkingDirectory"][0]),
        folder / "service.log",
        command=unit["ExecStart"][0].split(),
        environ=environ,
        mounts={**installed, **folders, own["CREDENTIALS_DIRECTORY"]: credentials, **mounts},
        writable=[*folders, *mounts],
        tmpfs=["/tmp", "/run"],
        has_init=True,
    )


@pytest.mark.slow
def test_the_systemd_unit_promotes_and_ends_at_sigterm(network, fireworks, store, tmp_path):
    environ = fill_in(UNIT.with_suffix(".env")) | ACCOUNT | {"MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db"}
    service = make_service(environ | {"FIREWORKS_BASE_URL": fireworks.url}, {str(store): store}, tmp_path)
    client = mlflow.MlflowClient(environ["MLFLOW_TRACKING_URI"])
    client.set_registered_model_alias("chat", "champion", "2")
    try:
        service.start()
        service.wait_until(lambda: answers(f"{RECEIVER}/readyz"), "the receiver is ready")
        service.wait_until(lambda: outcome(client, 2) == "READY", "version 2 is READY")
        assert (tmp_path / "lib" / "hooks.db").exists()
        assert service.stop(read_seconds(read_unit()["TimeoutStopSec"][0])) == 0
    finally:
        service.kill()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_no_fault_with_the_unit_and_little_that_it_may_do(network, tmp_path):
    service = make_service({}, {"/unit": UNIT.parent}, tmp_path)
    verified = service.run("systemd-analyze", "verify", f"/unit/{UNIT.name}")
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = service.run("systemd-analyze", "security", "--offline=true", "--threshold=15", f"/unit/{UNIT.name}")
    assert rated.returncode == 0, rated.stdout
