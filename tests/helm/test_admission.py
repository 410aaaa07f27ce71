"""Every object of every tested shape is admitted by a real API server, in a namespace that enforces Pod Security
"restricted", and every pod that they would make as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.helm.apiserver import ETCD, PROGRAM, ApiServer, running
from tests.helm.chart import CHART, RELEASE, SHAPES, Object, commanded, found, needs_helm, pods, rendered, values_of

CRDS = Path(__file__).parent / "crds"

pytestmark = [
    pytest.mark.slow,
    needs_helm,
    pytest.mark.skipif(not PROGRAM.exists(), reason="kube-apiserver is not built: `make test-helm` does it, with Go"),
    pytest.mark.skipif(ETCD is None, reason="etcd is missing: apt-get install etcd-server"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that knows the operators' kinds."""
    with running(tmp_path_factory.mktemp("kubernetes")) as ready:
        for path in sorted(CRDS.glob("*.yaml")):
            definition = yaml.safe_load(path.read_text(encoding="utf-8"))
            answer = ready.post(definition)
            assert answer.status == 201, (path.name, answer.message)
            spec = definition["spec"]
            served = next(version["name"] for version in spec["versions"] if version["served"])
            ready.wait_for(f"{spec['group']}/{served}", spec["names"]["kind"])
        yield ready


@pytest.mark.parametrize("shape", SHAPES)
def test_every_object_of_a_shape_is_admitted_without_a_warning(server: ApiServer, shape: str) -> None:
    server.namespace(shape)
    provide_classes(server, shape)
    assert [refusal for each in rendered(shape) if (refusal := refused(server, each, shape))] == []


@pytest.mark.parametrize("shape", SHAPES)
def test_every_pod_of_a_shape_passes_pod_security_restricted(server: ApiServer, shape: str) -> None:
    namespace = f"{shape}-pods"
    server.namespace(namespace)
    refusals = []
    for name, pod in pods(rendered(shape)):
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **_labels(pod)}, "spec": pod["spec"]}
        body["spec"] = {"restartPolicy": "Always"} | body["spec"]
        if refusal := refused(server, without_priority(body), namespace):
            refusals.append(refusal)
    assert refusals == []


@pytest.mark.parametrize("shape", SHAPES)
def test_helm_installs_a_release_upgrades_it_and_rolls_it_back(server: ApiServer, shape: str) -> None:
    namespace = f"{shape}-release"
    server.namespace(namespace)
    provide_classes(server, shape)
    where = ("--namespace", namespace, "--kubeconfig", str(server.config), "--no-hooks")  # nothing here runs a job
    # classes are the cluster's, and those of this shape are there already
    chart = (str(CHART), "-f", str(values_of(shape)), "--set", "scheduling.priority.create=false", *where)
    name = found(rendered(shape), "Deployment", "-api")["metadata"]["name"]

    def api() -> Object | None:
        return server.get("apps/v1", "Deployment", name, namespace)

    commanded("install", RELEASE, *chart)
    first = image_of(api())
    later = ("--set", "image.tag=99.0.0,kafka.partitions=40,telemetry.logLevel=debug")
    commanded("upgrade", RELEASE, *chart, *later)
    assert image_of(api()).endswith(":99.0.0") and image_of(api()) != first
    commanded("rollback", RELEASE, "1", *where)
    assert image_of(api()) == first
    commanded("uninstall", RELEASE, *where)
    assert api() is None


@pytest.mark.parametrize(
    ("shape", "version", "kind"),
    [("gpu", "batch/v1", "Job"), ("kubeflow", "trainer.kubeflow.org/v1alpha1", "TrainJob")],
)
def test_a_fit_goes_on_as_it_was_started_when_the_release_is_upgraded(
    server: ApiServer, shape: str, version: str, kind: str
) -> None:
    namespace = f"{shape}-fit"
    server.namespace(namespace)
    provide_classes(server, shape)
    name = found(rendered(shape), kind, "-fit-first")["metadata"]["name"]
    where = ("--namespace", namespace, "--kubeconfig", str(server.config), "--no-hooks")
    chart = (str(CHART), "-f", str(values_of(shape)), *where)

    def spec(of: str) -> Object:
        kept = server.get(version, kind, of, namespace)
        assert kept is not None
        return dict(kept["spec"])

    commanded("install", RELEASE, *chart)
    started = spec(name)
    for change in ("image.tag=99.0.0", "image.tag=99.0.0,fit.steps=7,fit.nodes=3", "image.tag=98.0.0"):
        commanded("upgrade", RELEASE, *chart, "--set", change)
        assert spec(name) == started
    commanded("upgrade", RELEASE, *chart, "--set", "image.tag=99.0.0,fit.name=second")
    assert ":99.0.0" in json.dumps(spec(name.replace("-first", "-second")))


def test_a_pod_that_may_do_more_than_restricted_is_refused(server: ApiServer) -> None:
    server.namespace("negative")
    container = {"name": "any", "image": "example.com/any:1"}
    pod: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": {"containers": [container]}}
    answer = server.post(pod, "negative")
    assert answer.status == 403
    assert "violates PodSecurity" in answer.message


def test_a_field_that_does_not_exist_is_refused(server: ApiServer) -> None:
    server.namespace("strict")
    topic: Object = {
        "apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaTopic", "metadata": {"name": "t"}, "spec": {"partitons": 4},
    }  # fmt: skip
    answer = server.post(topic, "strict")
    assert answer.status == 400
    assert "partitons" in answer.message


def refused(server: ApiServer, body: Object, namespace: str) -> str | None:
    """Why an object was not admitted, or what was warned of; None where all is well."""
    answer = server.post(body, namespace)
    name = f"{body['kind']} {body['metadata']['name']}"
    if answer.status != 201:
        return f"{name}: {answer.status} {answer.message}"
    return f"{name}: {answer.warnings}" if answer.warnings else None


def image_of(workload: Object | None) -> str:
    """That of a Deployment's or a job's first container."""
    assert workload is not None
    return str(workload["spec"]["template"]["spec"]["containers"][0]["image"])


def provide_classes(server: ApiServer, shape: str) -> None:
    """Makes the classes of priority that a shape takes for granted."""
    made = {each["metadata"]["name"] for each in rendered(shape) if each["kind"] == "PriorityClass"}
    for name in {pod["spec"].get("priorityClassName") for _, pod in pods(rendered(shape))} - made - {None}:
        body: Object = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}}
        assert server.post({**body, "value": 1000}).status in (201, 409), name


def without_priority(pod: Object) -> Object:
    """A pod without a class, which somebody else's cluster would have."""
    return pod | {"spec": {key: value for key, value in pod["spec"].items() if key != "priorityClassName"}}


def _labels(pod: Object) -> Object:
    return {"labels": pod["metadata"].get("labels", {})}
