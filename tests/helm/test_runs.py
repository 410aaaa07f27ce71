"""The rendered configuration is the configuration that runs: every program as its pod starts it, and a verdict.

In: the commands, environments and probes of the rendered objects. What a cluster would add is put in their place:
Secrets, names of services, one address a pod. Where the system allows it, each process sees a file system that it may
write only where its pod has a volume.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from services.clients.events import EventReader, EventSender, KafkaConnection
from services.core import topology
from services.core.envelope import decode, encode
from services.core.events import ImageUploaded, InlineImage, VerdictReached
from services.local.kafka import Kafka
from services.local.ports import free_port
from services.local.postgres import Postgres
from services.local.program import OwnProcess, Program
from tests.clients.conftest import dsn_of
from tests.helm.chart import ROOT, Object, found, needs_helm, rendered
from tests.s3_server import S3Server

SAMPLE = ROOT / "samples" / "uploads" / "windmill-again.jpg"  # small enough for inside an event
WAIT_S = 480  # loading networks beside everything else takes minutes on a busy machine
TOKEN = "a-token-of-the-tests"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Cluster:
    """What stands in for a cluster: values of Secrets, addresses of services, folders for volumes. `door` and `web` are
    the ports of the model server's and the api's services."""

    secrets: Mapping[tuple[str, str], str]
    names: Mapping[str, str]
    folder: Path
    door: int
    web: int

    def process(self, workload: Object, *, ports: Mapping[str, int]) -> OwnProcess:
        """The first container of a workload as a process of this machine."""
        pod = workload["spec"]["template"]
        container = pod["spec"]["containers"][0]
        env = self.environment(container) | {name: str(port) for name, port in ports.items()}
        probe = container.get("startupProbe", {}).get("httpGet")
        ready = None
        if probe:
            port = ports["PENTIMENTO_WEB__PORT" if probe["port"] == "http" else "PENTIMENTO_TELEMETRY__PORT"]
            ready = f"http://127.0.0.1:{port}{probe['path']}"
        name = f"{workload['metadata']['name']}-pod"
        program = Program(name, self.command(container), env=env, ready_url=ready)
        return OwnProcess(program, self.folder / f"{name}.log")

    def command(self, container: Object) -> tuple[str, ...]:
        """The container's own command, with this interpreter, where only volumes can be written."""
        first, *words = (self.addressed(word) for word in container["command"])
        program = {"python": (sys.executable,), "pentimento": (sys.executable, "-m", "tests.helm.pentimento")}[first]
        return (*read_only(self.folder), *program, *words)

    def environment(self, container: Object) -> dict[str, str]:
        """What the kubelet would put into it."""
        config = found(chart(), "ConfigMap")["data"] if container.get("envFrom") else {}
        values = {name: str(value) for name, value in config.items()}
        for each in container.get("env", []):
            secret = each.get("valueFrom", {}).get("secretKeyRef")
            values[each["name"]] = self.secrets[secret["name"], secret["key"]] if secret else each["value"]
        for name, value in values.items():
            values[name] = f"{self.folder}{value}" if value.startswith("/") else self.addressed(value)  # or a volume
        return values | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}

    def addressed(self, words: str) -> str:
        """With the addresses of what a cluster knows by name."""
        for service, address in self.names.items():
            words = words.replace(service, address)
        return words

    def run(self, container: Object) -> None:
        """A container that ends by itself, to its end."""
        env = {**os.environ, **self.environment(container)}
        command = self.command(container)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert done.returncode == 0, done.stderr


def chart() -> tuple[Object, ...]:
    """The chart, for brokers without passwords and a bucket that is reached without TLS."""
    return rendered(
        "external", "kafka.bootstrapServers=kafka:9092", "kafka.securityProtocol=PLAINTEXT",
        "objects.url=s3://pentimento/helm", "objects.endpoint=http://bucket:80", "objects.allowHttp=true",
        "objects.existingSecret=bucket", "modelServer.watch.enabled=false",
    )  # fmt: skip


def read_only(writable: Path) -> list[str]:
    """What starts a program in the folder `tmp` below `writable`, as images have it, and so that it can write nothing
    else; the latter only where this system lets us."""
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && cd "$0/tmp" && exec "$@"'
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(writable)]
    tried = shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True, check=False)
    if tried and tried.returncode == 0:
        return words
    return ["sh", "-c", 'cd "$0/tmp" && exec "$@"', str(writable)]


@asynccontextmanager
async def running(*processes: OwnProcess) -> AsyncIterator[None]:
    """All of them, started at once, until the block ends."""
    async with AsyncExitStack() as stack:
        for each in processes:
            await asyncio.to_thread(each.spawn)
            stack.push_async_callback(asyncio.to_thread, each.stop)
        for each in processes:
            await asyncio.to_thread(each.wait_ready, WAIT_S)
        yield


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Kafka]:
    """One without topics, which are the job's to make."""
    kafka = Kafka(tmp_path / "kafka", topics=())
    kafka.start()
    yield kafka
    kafka.stop()


@pytest.fixture
def cluster(postgres: Postgres, s3: S3Server, broker: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """With what the chart takes for granted."""
    folder = tmp_path_factory.mktemp("chart")  # a short name, since sockets lie below
    for volume in ("tmp", "var/lib/pentimento/model-server", "var/lib/pentimento/archives"):
        (folder / volume).mkdir(parents=True)
    door, web = free_port(), free_port()
    secrets = {
        ("database", "dsn"): dsn_of(postgres, f"chart_{uuid4().hex}"),
        ("bucket", "access-key-id"): s3.access_key_id,
        ("bucket", "secret-access-key"): s3.secret_access_key,
        ("models-token", "token"): TOKEN,
        ("web-token", "token"): TOKEN,
    }
    names = {
        "kafka:9092": broker.bootstrap_servers,
        "http://bucket:80": s3.endpoint,
        "test-pentimento-models:8080": f"127.0.0.1:{door}",
        "test-pentimento-api:8600": f"127.0.0.1:{web}",
    }
    return Cluster(secrets=secrets, names=names, folder=folder, door=door, web=web)


@needs_helm
@pytest.mark.timeout(1500)
async def test_every_program_of_the_chart_runs_as_rendered_and_an_upload_gets_its_verdict(
    cluster: Cluster, broker: Kafka
) -> None:
    deployments = [each for each in chart() if each["kind"] == "Deployment"]
    workloads = {each["metadata"]["name"].rpartition("-")[2]: each for each in deployments}
    assert workloads.keys() == {"api", "models", *topology.GROUPS}
    cluster.run(found(chart(), "Job", "-prepare")["spec"]["template"]["spec"]["containers"][0])
    cluster.run(workloads["intake"]["spec"]["template"]["spec"]["initContainers"][0])  # as every worker waits
    _archives(cluster, workloads["models"])
    async with running(*processes(cluster, workloads)):
        cluster.run(found(chart(), "Pod", "-test-ready")["spec"]["containers"][0])
        await _verdict(broker, cluster.web)
        door = f"http://127.0.0.1:{cluster.door}"
        async with httpx.AsyncClient() as client:
            refused = await client.post(f"{door}/predictions/unconstrained", content=b"x")
            assert refused.status_code == 401
            hidden = await client.get(f"{door}/models", headers={"Authorization": f"Bearer {TOKEN}"})
            assert hidden.status_code == 404


def processes(cluster: Cluster, workloads: Mapping[str, Object]) -> list[OwnProcess]:
    """One for each Deployment, on ports of its own as in a pod of its own."""
    made = []
    loopback = {f"PENTIMENTO_MODEL_SERVER__{n}_PORT": free_port() for n in ("INFERENCE", "MANAGEMENT", "METRICS")}
    for name, workload in workloads.items():
        own = {"PENTIMENTO_TELEMETRY__PORT": free_port(), "PENTIMENTO_WEB__PORT": cluster.web}
        more = {**loopback, "PENTIMENTO_MODEL_SERVER__PORT": cluster.door} if name == "models" else {}
        made.append(cluster.process(workload, ports={**own, **more}))
    return made


def test_a_program_that_sees_a_read_only_system_can_write_its_volumes_alone(tmp_path: Path) -> None:
    inside, outside = tmp_path / "volume", tmp_path / "outside"
    (inside / "tmp").mkdir(parents=True)
    starter = read_only(inside)
    if starter[0] != "unshare":
        pytest.skip("this system lets nobody make a mount namespace")
    assert subprocess.run([*starter, "touch", str(inside / "a")], check=False).returncode == 0
    assert subprocess.run([*starter, "touch", str(outside)], check=False, capture_output=True).returncode != 0


def _archives(cluster: Cluster, models: Object) -> None:
    """What the init container of the model server does, by its own script."""
    container = models["spec"]["template"]["spec"]["initContainers"][0]
    shell, flag, script = container["command"]
    script = script.replace("/var/lib", f"{cluster.folder}/var/lib")
    script = script.replace("pentimento package", f"{sys.executable} -m tests.helm.pentimento package")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([shell, flag, script], env=env, check=True, capture_output=True, timeout=WAIT_S)


async def _verdict(kafka: Kafka, web: int) -> None:
    """One upload in, by Kafka, and its verdict out, on Kafka and by the api."""
    connection = KafkaConnection(kafka.bootstrap_servers)
    sender = EventSender(connection, timeout_s=20)
    await sender.start()
    upload = ImageUploaded(
        upload_id=f"chart-{uuid4().hex[:8]}", image=InlineImage(data=SAMPLE.read_bytes()), uploaded_at=datetime.now(UTC)
    )
    await sender.send(encode(upload, source="/tests", time=datetime.now(UTC)))
    await sender.stop()
    async with asyncio.timeout(WAIT_S):
        async for message in EventReader(connection).read(topology.VERDICTS, from_beginning=True):
            verdict = decode(message, VerdictReached)
            if verdict.upload_id == upload.upload_id:
                break
    assert verdict.path.value == "unconstrained"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    address = f"http://127.0.0.1:{web}/api/v1/verdicts/{upload.tenant}/{upload.upload_id}"
    async with httpx.AsyncClient(headers=headers) as client, asyncio.timeout(WAIT_S):
        while (answer := await client.get(address)).status_code == 404:
            await asyncio.sleep(0.2)
    assert answer.status_code == 200, answer.text
    assert VerdictReached.model_validate(answer.json()["verdict"]) == verdict
