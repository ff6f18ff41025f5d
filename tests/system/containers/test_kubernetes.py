"""deploy/kubernetes is what Kubernetes takes, and agrees with the image, the settings and what was measured."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import kubernetes_validate
import pytest
import yaml

from speechbridge.settings import describe
from tests.helpers.service import STREAM, client, service

ROOT = Path(__file__).parents[3]
BASE, REVAI, REDIS = (ROOT / "deploy" / name for name in ("kubernetes", "kubernetes-revai", "kubernetes-redis"))
RESOURCES = {path.stem: path for path in BASE.glob("*.yaml") if path.stem != "kustomization"}
DOCS = (ROOT / "docs" / "deployment.md").read_text()
IMAGE = (ROOT / "Dockerfile").read_text()

# The oldest that is not yet out of support, and the newest of which the schemas are known.
VERSIONS = ("1.34", kubernetes_validate.latest_version())
TO_STOP = 10  # seconds after a drain: the recognizer's process, and connections whose clients do not answer
MEGA = {"Mi": 2**20 / 1e6, "Gi": 2**30 / 1e6}


def read(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text())
    assert isinstance(found, dict)
    return found


def pod() -> dict[str, Any]:
    found = read(RESOURCES["deployment"])["spec"]["template"]["spec"]
    assert isinstance(found, dict)
    return found


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    assert isinstance(found, dict)
    return found


def environment() -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container()["env"]}


def megabytes(size: str) -> float:
    return int(size[:-2]) * MEGA[size[-2:]]


# ---- what Kubernetes takes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [*RESOURCES, "egress"])
def test_each_manifest_has_the_form_that_its_kind_has(name: str, version: str) -> None:
    """Names that the schema does not know are errors, too."""
    path = RESOURCES.get(name, REVAI / f"{name}.yaml")
    assert kubernetes_validate.validate(read(path), version, strict=True) == ".".join(version.split(".")[:2])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["redis", "service", "networkpolicy", "egress"])
def test_so_has_each_manifest_of_redis(name: str, version: str) -> None:
    kubernetes_validate.validate(read(REDIS / f"{name}.yaml"), version, strict=True)


def test_the_pods_and_redis_find_each_other_and_nobody_else_does() -> None:
    redis, service_, policy, egress = (
        read(REDIS / f"{name}.yaml")["spec"] for name in ("redis", "service", "networkpolicy", "egress")
    )
    labels = redis["template"]["metadata"]["labels"]
    pods = read(RESOURCES["deployment"])["spec"]["template"]["metadata"]["labels"]
    assert labels == redis["selector"]["matchLabels"] == service_["selector"] == policy["podSelector"]["matchLabels"]
    assert [each["podSelector"]["matchLabels"] for each in policy["ingress"][0]["from"]] == [pods]
    assert [each["podSelector"]["matchLabels"] for each in egress["egress"][0]["to"]] == [labels]
    assert egress["podSelector"]["matchLabels"] == pods
    (merged,) = read(REDIS / "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    given = {each["name"]: each["value"] for each in merged["env"]}
    assert given["SPEECHBRIDGE_REDIS_URL"] == f"redis://{redis['serviceName']}:{service_['ports'][0]['port']}/0"
    assert given.keys() <= {name for name, _, _ in describe()}


@pytest.mark.slow
def test_kustomize_adds_redis_to_the_rest() -> None:
    kubectl = shutil.which("kubectl") or pytest.skip("kubectl is not installed")
    built = subprocess.run([kubectl, "kustomize", REDIS], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    resources = list(yaml.safe_load_all(built.stdout))
    for resource in resources:
        kubernetes_validate.validate(resource, VERSIONS[-1], strict=True)
    assert len(resources) == len(RESOURCES) + 5
    (deployment,) = [resource for resource in resources if resource["kind"] == "Deployment"]
    (merged,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"SPEECHBRIDGE_REDIS_URL", "SPEECHBRIDGE_MAX_SESSIONS"} <= {each["name"] for each in merged["env"]}


def test_the_schemas_find_mistakes() -> None:
    deployment = read(RESOURCES["deployment"])
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpGetter"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_every_manifest_is_listed() -> None:
    assert sorted(read(BASE / "kustomization.yaml")["resources"]) == sorted(path.name for path in RESOURCES.values())


@pytest.mark.slow
@pytest.mark.parametrize("folder", [BASE, REVAI])
def test_kustomize_puts_them_together(folder: Path) -> None:
    kubectl = shutil.which("kubectl") or pytest.skip("kubectl is not installed")
    built = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    resources = list(yaml.safe_load_all(built.stdout))
    for resource in resources:
        kubernetes_validate.validate(resource, VERSIONS[-1], strict=True)
    assert len(resources) == len(RESOURCES) + (folder == REVAI)
    names = {resource["metadata"]["name"] for resource in resources}
    assert names == {"speechbridge"} | ({"speechbridge-revai"} if folder == REVAI else set())
    if folder == REVAI:
        (deployment,) = [resource for resource in resources if resource["kind"] == "Deployment"]
        (merged,) = deployment["spec"]["template"]["spec"]["containers"]
        values = [each["value"] for each in merged["env"] if each["name"] == "SPEECHBRIDGE_MAX_SESSIONS"]
        assert values == ["100"]
        assert merged["readinessProbe"], "it is the base's, changed"


def test_all_of_them_mean_the_same_pods() -> None:
    labels = read(RESOURCES["deployment"])["spec"]["template"]["metadata"]["labels"]
    for name, path in {"service": ("selector",), "poddisruptionbudget": ("selector", "matchLabels")}.items():
        found: Any = read(RESOURCES[name])["spec"]
        for step in path:
            found = found[step]
        assert found == labels, name
    assert read(RESOURCES["deployment"])["spec"]["selector"]["matchLabels"] == labels
    for policy in (RESOURCES["networkpolicy"], REVAI / "egress.yaml"):
        assert read(policy)["spec"]["podSelector"]["matchLabels"] == labels
    (spread,) = pod()["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels
    target = read(RESOURCES["horizontalpodautoscaler"])["spec"]["scaleTargetRef"]
    deployment = read(RESOURCES["deployment"])
    assert target == {key: deployment[key] for key in ("apiVersion", "kind")} | {"name": deployment["metadata"]["name"]}


# ---- what it says of the service -------------------------------------------------------------------------------------


def test_what_it_sets_are_settings_and_what_it_mounts_is_read() -> None:
    known = {name for name, _, _ in describe()}
    assert set(environment()) <= known
    (volume,) = [volume for volume in pod()["volumes"] if volume["name"] == "secrets"]
    (mount,) = [mount for mount in container()["volumeMounts"] if mount["name"] == "secrets"]
    secret = read(RESOURCES["secret"])
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    files = {value for name, value in environment().items() if name.endswith("_FILE")}
    assert files == {f"{mount['mountPath']}/{name}" for name in secret["stringData"]}


def test_a_pod_has_time_to_drain() -> None:
    """Its grace period begins with preStop."""
    command = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    drain = float(environment()["SPEECHBRIDGE_DRAIN_SECONDS"])
    assert pod()["terminationGracePeriodSeconds"] >= int(command[1]) + drain + TO_STOP


async def test_probes_ask_for_what_the_service_answers() -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert f"EXPOSE {ports['http']}" in IMAGE
    async with service() as server, httpx2.AsyncClient(base_url=server.url.replace("ws:", "http:")) as http:
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container()[name]["httpGet"]
            assert asked["port"] in ports
            assert (await http.get(asked["path"])).status_code == 200
        server.sessions.began_draining.set()
        assert (await http.get(container()["readinessProbe"]["httpGet"]["path"])).status_code == 503
        assert (await http.get(container()["livenessProbe"]["httpGet"]["path"])).status_code == 200
    assert container()["startupProbe"]["periodSeconds"] * container()["startupProbe"]["failureThreshold"] >= 60


def test_it_runs_as_the_images_user_with_no_privilege() -> None:
    """As Kubernetes' Pod Security Standard "restricted" demands, and with only two folders that can be written."""
    context, own = pod()["securityContext"], container()["securityContext"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}" in IMAGE
    assert context["runAsNonRoot"]
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod()["automountServiceAccountToken"]
    writable = {mount["mountPath"] for mount in container()["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", "/var/lib/speechbridge"}  # noqa: S108


def test_memory_is_enough_for_what_was_measured() -> None:
    """By the table in docs/deployment.md."""
    service_own, per_session = map(int, _found(r"the service \| (\d+) MB, plus (\d+) MB a stream"))
    recognizer, per_stream = map(int, _found(r"the recognizer \| (\d+) MB, plus (\d+) MB for each"))
    streams = int(environment()["SPEECHBRIDGE_RECOGNIZER_STREAMS"])
    assert int(environment()["SPEECHBRIDGE_MAX_SESSIONS"]) == streams, "more would be refused one after the other"
    needed = service_own + recognizer + streams * (per_session + per_stream)
    limit = megabytes(container()["resources"]["limits"]["memory"])
    assert needed * 1.2 <= limit, "a fifth to spare"
    revai = read(REVAI / "deployment.yaml")["spec"]["template"]["spec"]["containers"][0]
    sessions = int(revai["env"][0]["value"])
    worst = int(_found(r"a stream takes (\d+) MB")[0])
    assert (service_own + recognizer + sessions * worst) * 1.2 <= megabytes(revai["resources"]["limits"]["memory"])


def _found(pattern: str) -> tuple[str, ...]:
    found = re.search(pattern, " ".join(DOCS.split()))
    assert found, pattern
    return found.groups()


async def test_it_scales_by_a_metric_that_the_service_has() -> None:
    spec = read(RESOURCES["horizontalpodautoscaler"])["spec"]
    (pods,) = [metric["pods"] for metric in spec["metrics"] if metric["type"] == "Pods"]
    name = pods["metric"]["name"]
    async with service() as server, client(server, STREAM) as socket:
        await socket.recv()  # connected: the session runs
        async with httpx2.AsyncClient(base_url=server.url.replace("ws:", "http:")) as http:
            annotations = read(RESOURCES["deployment"])["spec"]["template"]["metadata"]["annotations"]
            text = (await http.get(annotations["prometheus.io/path"])).text
    assert f"\n{name} 1.0\n" in text
    assert f"seriesQuery: '{name}{{" in DOCS
    assert int(pods["target"]["averageValue"]) < int(environment()["SPEECHBRIDGE_MAX_SESSIONS"])
    assert spec["minReplicas"] >= 2, "one pod may go at a time, and another must be there"
