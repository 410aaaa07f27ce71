"""Every object of every tested shape is admitted by a real API server, in a namespace that enforces Pod Security
"restricted", and every pod that they would make as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.helm.apiserver import ETCD, PROGRAM, ApiServer, running
from tests.helm.chart import SHAPES, Object, needs_helm, pods, rendered

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
    assert [refusal for each in rendered(shape) if (refusal := refused(server, each, shape))] == []


@pytest.mark.parametrize("shape", SHAPES)
def test_every_pod_of_a_shape_passes_pod_security_restricted(server: ApiServer, shape: str) -> None:
    namespace = f"{shape}-pods"
    server.namespace(namespace)
    found = []
    for name, pod in pods(rendered(shape)):
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **_labels(pod)}, "spec": pod["spec"]}
        body["spec"] = {"restartPolicy": "Always"} | body["spec"]
        if refusal := refused(server, without_priority(body), namespace):
            found.append(refusal)
    assert found == []


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


def without_priority(pod: Object) -> Object:
    """A pod without a class, which somebody else's cluster would have."""
    return pod | {"spec": {key: value for key, value in pod["spec"].items() if key != "priorityClassName"}}


def _labels(pod: Object) -> Object:
    return {"labels": pod["metadata"].get("labels", {})}
