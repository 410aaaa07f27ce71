"""The chart's objects: valid by Kubernetes' own schemas and by those of its operators, and what every pod promises."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy.monitoring.rules import RUNBOOKS
from helm import files
from services.cli.prepare import kept
from services.core import topology
from services.settings_docs import variables
from tests.helm.chart import (
    CHART,
    KUBERNETES,
    ROOT,
    SHAPES,
    Object,
    Refused,
    containers,
    found,
    needs_helm,
    pods,
    ran,
    rendered,
    rendered_text,
    values_of,
)

CRDS = Path(__file__).parent / "crds"
COMPONENT = "app.kubernetes.io/component"
NAMESPACE_LABEL = "kubernetes.io/metadata.name"
SWITCHES = {
    "strimzi.enabled": ("Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser"),
    "cnpg.enabled": ("Cluster",),
    "keda.enabled": ("ScaledObject", "TriggerAuthentication"),
    "trainer.enabled": ("CronJob", "PersistentVolumeClaim"),
    "retention.enabled": ("CronJob",),
    "monitoring.serviceMonitor.enabled": ("ServiceMonitor",),
    "monitoring.prometheusRule.enabled": ("PrometheusRule",),
    "ingress.enabled": ("Ingress",),
    "gateway.enabled": ("HTTPRoute",),
    "scheduling.priority.create": ("PriorityClass",),
    "modelServer.autoscaling.enabled": ("HorizontalPodAutoscaler",),
}
"""Switches, off in the shape `external`, and the kinds that must not be there then."""

BAD = {
    "kafka.securityProtocol=TLS": ("securityProtocol", "SASL_SSL"),
    "kafka.partitons=8": ("partitons",),
    "kafka.partitions=many": ("partitions", "integer"),
    "settings.PENTIMENTO_intake=5": ("PENTIMENTO_intake",),
    "settings.PENTIMENTO_KAFKA__PASSWORD=x": ("PENTIMENTO_KAFKA__PASSWORD",),
    "settings.PENTIMENTO_WEBHOOKS__KEYS=x": ("PENTIMENTO_WEBHOOKS__KEYS",),
    "settings.PENTIMENTO_LOGIN__CLIENT_SECRET=x": ("PENTIMENTO_LOGIN__CLIENT_SECRET",),
    "objects.url=file:///tmp": ("url", "file:///tmp"),
    "workers.judge.replicas=9": ("workers.judge.replicas is 9", "4 partitions"),
    "workers.judge.replicas=-1": ("replicas",),
    "strimzi.enabled=true": ("kafka.bootstrapServers is set",),
    "strimzi.enabled=true,kafka.bootstrapServers=,kafka.clientSecret=x": ("kafka.clientSecret is set",),
    "cnpg.enabled=true": ("postgres.existingSecret is set",),
    "kafka.existingSecret=": ("kafka.existingSecret", "SASL_SSL"),
    "api.existingSecret=": ("api.existingSecret is empty",),
    "modelServer.enabled=false": ("modelServer.externalUrl is empty",),
    "trainer.enabled=true": ("trainer.existingClaim is empty",),
    "fit.kind=job": ("fit.existingClaim", "fit.workClaim"),
    "ingress.enabled=true": ("ingress.host is empty",),
    "gateway.enabled=true": ("gateway.parentRefs is empty",),
    "cnpg.storage.size=big": ("size", "big"),
    "trainer.schedule=nightly": ("schedule",),
    "retention.enabled=true,retention.schedule=nightly": ("schedule",),
}
"""Values that do not fit, by what must be said of them."""

OF_THE_API = {
    "PENTIMENTO_WEBHOOKS__KEYS": {"name": "webhook-keys", "key": "keys"},
    "PENTIMENTO_LOGIN__CLIENT_SECRET": {"name": "provider", "key": "client-secret"},
}
"""Secrets of the shape `airgapped` that no other program may have."""

NAMES, BROKERS, DATABASE, OBJECTS, MODELS, API = 53, 9093, 5432, 443, 8080, 8600
IDENTITY = (80, 988)
REACHED: dict[str, set[int | None]] = {
    "api": {BROKERS, DATABASE, OBJECTS, MODELS, *IDENTITY},  # searches by picture, and says which models serve
    "intake": {BROKERS, DATABASE, OBJECTS, MODELS, *IDENTITY},
    "judge": {BROKERS, DATABASE, OBJECTS, MODELS, *IDENTITY},
    "learn": {BROKERS, DATABASE, OBJECTS, *IDENTITY},  # masks that moderators drew
    "models": {BROKERS, DATABASE, OBJECTS, *IDENTITY},  # what was promoted
    "trainer": {BROKERS, DATABASE, OBJECTS, MODELS, *IDENTITY},
    "prepare": {BROKERS, DATABASE},
    "retention": {BROKERS, DATABASE, OBJECTS, *IDENTITY},
    "test": {API},
    "fit": {None},  # its own machines, on every port
}
"""Ports that a pod of each component may open a connection to beside that of names, in the shape `gpu`; None: any."""


def test_the_generated_files_are_fresh() -> None:
    assert files.stale() == [], "run `python -m helm.files`"


def test_the_chart_has_the_topics_and_groups_of_the_topology() -> None:
    written = yaml.safe_load((CHART / "files" / "topology.yaml").read_text(encoding="utf-8"))
    assert {each["name"]: each["config"] for each in written["topics"]} == {
        name: topic.config() for name, topic in topology.TOPICS.items()
    }
    assert {name: group["consumerGroup"] for name, group in written["groups"].items()} == {
        name: group.consumer_group for name, group in topology.GROUPS.items()
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_the_values_of_a_tested_shape_fit_the_schema(shape: str) -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(values_of(shape).read_text(encoding="utf-8")))


def test_a_value_without_a_comment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kafka\.port has no comment"):
        list(files.values("# Brokers.\nkafka:\n  # -- Who.\n  user: a\n\n  port: 1\n"))


@needs_helm
@pytest.mark.parametrize("shape", SHAPES)
def test_helm_finds_no_fault(shape: str) -> None:
    assert "0 chart(s) failed" in ran("lint", "--strict", str(CHART), "-f", str(values_of(shape)))


@needs_helm
@pytest.mark.parametrize("shape", SHAPES)
def test_every_object_fits_kubernetes_or_its_operators_schema(shape: str) -> None:
    for each in rendered(shape):
        if (each["apiVersion"], each["kind"]) in schemas():
            custom(each)
        else:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)


@needs_helm
def test_what_is_no_field_of_an_object_is_found() -> None:
    topic = {**found(rendered("operators"), "KafkaTopic", "image-uploads"), "spec": {"partitons": 4}}
    with pytest.raises(jsonschema.ValidationError, match="partitons"):
        custom(topic)


@needs_helm
@pytest.mark.parametrize("shape", SHAPES)
def test_no_object_is_there_twice_and_none_holds_a_secret(shape: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered(shape)]
    assert len(names) == len(set(names))
    assert [name for kind, name in names if kind == "Secret" and not name.endswith("-keda")] == []


@needs_helm
@pytest.mark.parametrize("shape", SHAPES)
def test_no_pod_is_without_limits_or_may_do_more_than_it_must(shape: str) -> None:
    seen = 0
    for name, pod in pods(rendered(shape)):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in containers(pod):
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, (name, container["name"])
            assert "memory" in container["resources"]["limits"], (name, container["name"])
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounts <= {volume["name"] for volume in spec["volumes"]}, (name, container["name"])
            seen += 1
    assert seen >= 8


@needs_helm
@pytest.mark.parametrize("shape", SHAPES)
def test_selectors_are_name_instance_and_component_and_find_their_pods(shape: str) -> None:
    objects = rendered(shape)
    labels = [pod["metadata"]["labels"] for _, pod in pods(objects)]
    for each in objects:
        selector = each.get("spec", {}).get("selector") if each["kind"] in ("Deployment", "Service") else None
        if selector is None:
            continue
        selector = selector.get("matchLabels", selector)
        own = {key.partition("/")[2] for key in selector} - {"job-name"}
        assert own == {"name", "instance", "component"}, each["metadata"]["name"]
        wanted = {key: value for key, value in selector.items() if "job-name" not in key}
        assert any(wanted.items() <= found_one.items() for found_one in labels), each["metadata"]["name"]


@needs_helm
@pytest.mark.parametrize("shape", SHAPES)
def test_every_variable_of_a_pod_is_a_setting(shape: str) -> None:
    objects, known = rendered(shape), set(variables())
    given = set(next(each for each in objects if each["kind"] == "ConfigMap")["data"])
    for _, pod in pods(objects):
        for container in containers(pod):
            given |= {each["name"] for each in container.get("env", [])}
    ours = {name for name in given if name.startswith("PENTIMENTO_")}
    assert ours - known == set()
    assert given - ours <= {"HOME", "JOB_COMPLETION_INDEX", "FORWARDED_ALLOW_IPS"}
    assert len(ours) > 15


@needs_helm
@pytest.mark.parametrize(("switch", "kinds"), SWITCHES.items(), ids=list(SWITCHES))
def test_what_is_switched_off_renders_nothing(switch: str, kinds: tuple[str, ...]) -> None:
    there = {each["kind"] for each in rendered("external")}
    assert not there & set(kinds), switch


@needs_helm
def test_every_switch_renders_its_kinds_in_some_shape() -> None:
    there = {each["kind"] for shape in SHAPES for each in rendered(shape)}
    wanted = {kind for kinds in SWITCHES.values() for kind in kinds} | {"TrainJob", "NetworkPolicy"}
    if not list((CHART / "rules").glob("*.yaml")):
        wanted.discard("PrometheusRule")  # nobody has written a rule yet
    assert wanted <= there


@needs_helm
def test_a_switch_that_is_off_leaves_out_more_than_custom_resources() -> None:
    switches = ("modelServer.enabled", "networkPolicy.enabled", "prepare.enabled", "tests.enabled")
    off = [f"{each}=false" for each in (*switches, "podDisruptionBudget", "serviceAccount.create")]
    objects = rendered("external", *off, "modelServer.externalUrl=http://models.example.com")
    assert {each["kind"] for each in objects} == {"ConfigMap", "Deployment", "Service"}
    assert not any(each["metadata"]["name"].endswith("-models") for each in objects)


@needs_helm
@pytest.mark.parametrize(("setting", "said"), BAD.items(), ids=list(BAD))
def test_helm_says_which_value_does_not_fit_and_why(setting: str, said: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as refused:
        rendered_text("external", setting)
    for words in said:
        assert words in refused.value.why


@needs_helm
def test_what_is_past_its_time_is_removed_by_the_program_with_the_settings_of_all() -> None:
    job = found(rendered("gpu"), "CronJob", "-retention")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = job["containers"]
    assert container["command"] == ["pentimento", "retain", "--yes", "--json"]
    given = {each["name"] for each in container["env"]}
    assert given >= {"PENTIMENTO_POSTGRES__DSN"} and "PENTIMENTO_KAFKA__PASSWORD" not in given
    (settings,) = [each["configMapRef"]["name"] for each in container["envFrom"]]
    assert found(rendered("gpu"), "ConfigMap", settings)["data"]["PENTIMENTO_RETENTION__PICTURES_DAYS"] == "90"


@needs_helm
def test_topics_keep_no_message_longer_than_the_setting_of_retention_says() -> None:
    objects = [each for each in rendered("kubeflow") if each["kind"] == "KafkaTopic"]
    topics = {each["metadata"]["name"]: each["spec"]["config"] for each in objects}
    wanted = {topic.name: topic.config() for topic in kept(list(topology.TOPICS.values()), 10)}
    assert topics == wanted
    assert topics[topology.VERDICTS]["retention.ms"] == str(10 * 86_400_000)


@needs_helm
def test_workers_are_scaled_by_the_lag_of_their_own_group_up_to_its_partitions() -> None:
    objects = rendered("operators")
    for name, group in topology.GROUPS.items():
        spec = found(objects, "ScaledObject", f"-{name}")["spec"]
        triggers = [each["metadata"] for each in spec["triggers"]]
        assert [each["topic"] for each in triggers] == list(group.reads)
        assert {each["consumerGroup"] for each in triggers} == {group.consumer_group}
        assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= 12
        assert "replicas" not in found(objects, "Deployment", f"-{name}")["spec"]


@needs_helm
def test_topics_of_strimzi_are_those_of_the_topology_with_the_partitions_of_the_values() -> None:
    topics = {each["metadata"]["name"]: each["spec"] for each in rendered("operators") if each["kind"] == "KafkaTopic"}
    assert topics.keys() == topology.TOPICS.keys()
    for name, topic in topology.TOPICS.items():
        assert topics[name]["config"] == topic.config()
        assert topics[name]["partitions"] == (12 if topic.partitions > 1 else 1)


@needs_helm
def test_dashboards_and_rules_are_those_of_the_repository() -> None:
    objects = rendered("operators")
    boards = {
        name for each in objects if each["kind"] == "ConfigMap" for name in each["data"] if name.endswith(".json")
    }
    assert boards == {path.name for path in (CHART / "dashboards").glob("*.json")}
    rules = [each["spec"] for each in objects if each["kind"] == "PrometheusRule"]
    assert len(rules) == len(list((CHART / "rules").glob("*.yaml")))


@needs_helm
def test_alerts_lead_to_the_runbooks_that_values_name() -> None:
    addresses = {}
    for settings in ((), ("monitoring.prometheusRule.runbooks=https://wiki.example.org/p/",)):
        spec = found(rendered("operators", *settings), "PrometheusRule", "-alerts")["spec"]
        alerts = [rule for group in spec["groups"] for rule in group["rules"]]
        addresses[settings] = {each["annotations"]["runbook_url"].rpartition("/")[0] for each in alerts}
    assert list(addresses.values()) == [{RUNBOOKS}, {"https://wiki.example.org/p"}]


@needs_helm
def test_prometheus_finds_all_of_a_release_under_the_name_that_rules_ask_for() -> None:
    objects = rendered("operators")
    monitor = found(objects, "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    services = [each for each in objects if each["kind"] == "Service"]
    looked_at = [each for each in services if wanted <= each["metadata"]["labels"].items()]
    assert {each["metadata"]["labels"][monitor["jobLabel"]] for each in looked_at} == {"pentimento"}
    ports = {port["name"] for each in looked_at for port in each["spec"]["ports"]}
    assert ports == {endpoint["port"] for endpoint in monitor["endpoints"]}
    assert len(looked_at) == len(topology.GROUPS) + 2


@needs_helm
def test_a_fit_by_kubeflow_is_placed_where_gpus_are() -> None:
    (override,) = found(rendered("kubeflow"), "TrainJob")["spec"]["podSpecOverrides"]
    assert override["nodeSelector"] == {"pool": "batch", "accelerator": "h200"}
    assert [each["key"] for each in override["tolerations"]] == ["nvidia.com/gpu"]


@needs_helm
def test_a_client_certificate_of_kafka_is_where_settings_say_and_known_to_keda() -> None:
    objects = rendered("gateway", "keda.enabled=true")
    given = next(each for each in objects if each["kind"] == "ConfigMap")["data"]
    folder = "/etc/pentimento/kafka-client"
    assert given["PENTIMENTO_KAFKA__CERTIFICATE_FILE"] == f"{folder}/tls.crt"
    assert given["PENTIMENTO_KAFKA__KEY_FILE"] == f"{folder}/tls.key"
    seen = 0
    for _, pod in pods(objects):
        for container in containers(pod):
            mounted = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
            assert (folder in mounted) is ("PENTIMENTO_KAFKA__CERTIFICATE_FILE" in variables_of(container, given))
            seen += folder in mounted
    assert seen >= 5
    asked = {
        each["parameter"]: each["name"] for each in found(objects, "TriggerAuthentication")["spec"]["secretTargetRef"]
    }
    assert asked == {"ca": "kafka-ca", "cert": "kafka-client", "key": "kafka-client"}


def test_settings_that_hold_a_secret_are_refused_and_those_that_speak_of_one_are_not() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    secret = set(re.findall(r"^\| `(PENTIMENTO_\w+)` \| [^|]*\bsecret\b", page, re.MULTILINE))
    assert len(secret) > 5
    assert not secret & set(files.settings())
    for name in (
        "WEB__PUBLIC_URL", "WEB__LIVE_CONNECTIONS", "WEB__OPEN_ON_LOOPBACK", "WEBHOOKS__OLD_SECRET_S",
        "LOGIN__CLIENT_SECRET_FILE", "WEBHOOKS__ALLOWED_HOSTS", "LOGIN__ISSUER",
    ):  # fmt: skip
        assert f"PENTIMENTO_{name}" in files.settings()


@needs_helm
def test_the_api_alone_gets_the_keys_of_webhooks_and_the_providers_secret() -> None:
    objects = rendered("airgapped")
    for _, pod in pods(objects):
        for container in containers(pod):
            given = {each["name"]: each.get("valueFrom", {}).get("secretKeyRef") for each in container.get("env", [])}
            asked = {name: given[name] for name in given.keys() & OF_THE_API.keys()}
            assert asked == (OF_THE_API if container["name"] == "api" else {}), container["name"]
    least = found(rendered("external"), "Deployment", "-api")["spec"]["template"]["spec"]["containers"][0]
    assert not OF_THE_API.keys() & {each["name"] for each in least["env"]}


@needs_helm
def test_the_api_takes_addresses_from_the_proxies_that_values_name_and_from_no_others() -> None:
    def trusted(shape: str) -> list[str]:
        containers_of_api = found(rendered(shape), "Deployment", "-api")["spec"]["template"]["spec"]["containers"]
        return [each["value"] for each in containers_of_api[0]["env"] if each["name"] == "FORWARDED_ALLOW_IPS"]

    assert trusted("external") == []
    assert trusted("airgapped") == ["10.30.0.0/16,fd00:30::/64"]


@needs_helm
def test_a_pod_reaches_what_it_needs_and_nothing_else() -> None:
    objects = rendered("gpu")
    labels = {pod["metadata"]["labels"][COMPONENT]: pod["metadata"]["labels"] for _, pod in pods(objects)}
    assert labels.keys() == REACHED.keys()
    for component, wanted in REACHED.items():
        reached = {port for rule in rules_for(objects, labels[component], "egress") for port in ports_of(rule)}
        assert reached == {NAMES, *wanted}, component


@needs_helm
def test_who_may_ask_the_models_is_let_in_by_them() -> None:
    objects = rendered("gpu")
    labels = [pod["metadata"]["labels"] for _, pod in pods(objects)]
    (models,) = [each for each in labels if each[COMPONENT] == "models"]
    peers = [
        peer["podSelector"]
        for rule in rules_for(objects, models, "ingress")
        if MODELS in ports_of(rule)
        for peer in rule["from"]
    ]
    let_in = {each[COMPONENT] for each in labels if any(selects(peer, each) for peer in peers)}
    assert let_in == {component for component, ports in REACHED.items() if MODELS in ports}


@needs_helm
def test_only_the_api_sends_webhooks_and_asks_the_provider_and_only_where_values_say() -> None:
    for shape, wanted in (("external", {}), ("airgapped", {"platform": {443, 8443}, "identity": {443}})):
        objects = rendered(shape)
        for _, pod in pods(objects):
            labels = pod["metadata"]["labels"]
            found_peers = {
                namespace: ports_of(rule)
                for rule in rules_for(objects, labels, "egress")
                for namespace in namespaces(rule.get("to", []))
                if namespace in ("platform", "identity")
            }
            assert found_peers == (wanted if labels[COMPONENT] == "api" else {}), (shape, labels[COMPONENT])


@needs_helm
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (("networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.a=b",), {"a": "b"}),
        (("monitoring.serviceMonitor.enabled=true",), {}),
        ((), None),
    ],
)
def test_prometheus_reaches_an_api_that_is_closed_to_others(
    settings: tuple[str, ...], wanted: dict[str, str] | None
) -> None:
    front = "networkPolicy.apiFrom[0].namespaceSelector.matchLabels.front=yes"
    objects = rendered("external", front, *settings)
    rules = rules_for(
        objects, found(objects, "Deployment", "-api")["spec"]["template"]["metadata"]["labels"], "ingress"
    )
    peers = [peer for rule in rules if ports_of(rule) == {API} for peer in rule["from"] if "namespaceSelector" in peer]
    known = [peer["namespaceSelector"].get("matchLabels", {}) for peer in peers]
    assert known == [{"front": "yes"}, *([] if wanted is None else [wanted])]


def variables_of(container: Object, config: Object) -> set[str]:
    """The names of a container's variables."""
    own = {each["name"] for each in container.get("env", [])}
    return own | set(config) if "envFrom" in container else own


def rules_for(objects: tuple[Object, ...], labels: dict[str, str], way: str) -> list[Object]:
    """The rules of one way, `egress` or `ingress`, of all policies that select a pod with these labels."""
    policies = [each["spec"] for each in objects if each["kind"] == "NetworkPolicy"]
    chosen = [each for each in policies if selects(each["podSelector"], labels) and way.title() in each["policyTypes"]]
    assert chosen, "no policy: everything may be reached"
    return [rule for each in chosen for rule in each.get(way, [])]


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a selector of Kubernetes takes a pod with these labels."""
    for each in selector.get("matchExpressions", []):
        if (labels.get(each["key"]) in each["values"]) is not (each["operator"] == "In"):
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def ports_of(rule: Object) -> set[int | None]:
    """The ports of a rule; None where it names none and so means all."""
    return {each["port"] for each in rule["ports"]} if "ports" in rule else {None}


def namespaces(peers: list[Object]) -> set[str]:
    """The namespaces that peers name."""
    chosen = [each.get("namespaceSelector", {}).get("matchLabels", {}) for each in peers]
    return {labels[NAMESPACE_LABEL] for labels in chosen if NAMESPACE_LABEL in labels}


def custom(each: Object) -> None:
    """Validates an object of an operator, as the API server would: unknown fields are refused."""
    jsonschema.Draft202012Validator(schemas()[each["apiVersion"], each["kind"]]).validate(
        {key: value for key, value in each.items() if key not in ("apiVersion", "kind", "metadata")}
    )


@cache
def schemas() -> dict[tuple[str, str], Any]:
    """What each served version of each kind may hold."""
    loaded = {}
    for path in sorted(CRDS.glob("*.yaml")):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        for version in spec["versions"]:
            inner = dict(version["schema"]["openAPIV3Schema"])
            inner["properties"] = {
                name: closed(value)
                for name, value in inner["properties"].items()
                if name not in ("apiVersion", "kind", "metadata")
            }
            inner["required"] = [name for name in inner.get("required", []) if name in inner["properties"]]
            kind = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            loaded[kind] = inner | {"additionalProperties": False}
    return loaded


def closed(schema: Any) -> Any:
    """An OpenAPI schema as JSON Schema, closed as the API server prunes it."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items() if key not in ("format", "default")}
    if schema.get("x-kubernetes-int-or-string"):
        result = {"type": ["integer", "string"]}
    if "pattern" in schema and not _compiles(schema["pattern"]):
        result.pop("pattern", None)
    opened = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not opened:
        result["additionalProperties"] = False
    return result


def _compiles(pattern: Any) -> bool:
    try:
        re.compile(pattern)
    except (re.error, TypeError):
        return False
    return True
