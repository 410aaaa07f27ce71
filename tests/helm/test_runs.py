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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
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

SAMPLE = ROOT / "samples" / "uploads"
VERDICT_S = 240
TOKEN = "a-token-of-the-tests"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Cluster:
    """What stands in for a cluster: values of Secrets, addresses of services, folders for volumes."""

    secrets: Mapping[tuple[str, str], str]
    names: Mapping[str, str]
    folder: Path

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
        first, *words = container["command"]
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
            for service, address in self.names.items():
                values[name] = values[name].replace(service, address)
            if value.startswith("/"):
                values[name] = f"{self.folder}{value}"  # a volume
        return values | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


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


@contextmanager
def running(*processes: OwnProcess) -> Iterator[None]:
    """All of them, started at once, until the block ends."""
    with ExitStack() as stack:
        for each in processes:
            each.spawn()
            stack.callback(each.stop)
        for each in processes:
            each.wait_ready(VERDICT_S)
        yield


@needs_helm
@pytest.mark.timeout(900)
async def test_every_program_of_the_chart_runs_as_rendered_and_an_upload_gets_its_verdict(
    postgres: Postgres,
    s3: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("chart")
    for volume in ("tmp", "var/lib/pentimento/model-server", "var/lib/pentimento/archives"):
        (folder / volume).mkdir(parents=True)
    kafka = Kafka(folder / "kafka", topics=())  # its topics are the job's to make
    door = free_port()
    cluster = Cluster(
        secrets={
            ("database", "dsn"): dsn_of(postgres, f"chart_{uuid4().hex}"),
            ("bucket", "access-key-id"): s3.access_key_id,
            ("bucket", "secret-access-key"): s3.secret_access_key,
            ("models-token", "token"): TOKEN,
            ("web-token", "token"): TOKEN,
        },
        names={
            "kafka:9092": kafka.bootstrap_servers,
            "http://bucket:80": s3.endpoint,
            "test-pentimento-models:8080": f"127.0.0.1:{door}",
        },
        folder=folder,
    )
    deployments = [each for each in chart() if each["kind"] == "Deployment"]
    workloads = {each["metadata"]["name"].rpartition("-")[2]: each for each in deployments}
    assert workloads.keys() == {"api", "models", *topology.GROUPS}
    try:
        await asyncio.to_thread(kafka.start)
        await asyncio.to_thread(_run_once, cluster, found(chart(), "Job", "-prepare"))
        await asyncio.to_thread(_archives, cluster, workloads["models"])
        loopback = {f"PENTIMENTO_MODEL_SERVER__{n}_PORT": free_port() for n in ("INFERENCE", "MANAGEMENT", "METRICS")}
        processes, web = [], free_port()
        for name, workload in workloads.items():
            own = {"PENTIMENTO_TELEMETRY__PORT": free_port(), "PENTIMENTO_WEB__PORT": web}
            more = {**loopback, "PENTIMENTO_MODEL_SERVER__PORT": door} if name == "models" else {}
            processes.append(cluster.process(workload, ports={**own, **more}))
        started = running(*processes)
        await asyncio.to_thread(started.__enter__)
        try:
            await _verdict(kafka, web)
            async with httpx.AsyncClient() as client:
                refused = await client.post(f"http://127.0.0.1:{door}/predictions/unconstrained", content=b"x")
                assert refused.status_code == 401
                bearer = {"Authorization": f"Bearer {TOKEN}"}
                hidden = await client.get(f"http://127.0.0.1:{door}/models", headers=bearer)
                assert hidden.status_code == 404
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)
    finally:
        await asyncio.to_thread(kafka.stop)


def test_a_program_that_sees_a_read_only_system_can_write_its_volumes_alone(tmp_path: Path) -> None:
    inside, outside = tmp_path / "volume", tmp_path / "outside"
    (inside / "tmp").mkdir(parents=True)
    starter = read_only(inside)
    if starter[0] != "unshare":
        pytest.skip("this system lets nobody make a mount namespace")
    assert subprocess.run([*starter, "touch", str(inside / "a")], check=False).returncode == 0
    assert subprocess.run([*starter, "touch", str(outside)], check=False, capture_output=True).returncode != 0


def _run_once(cluster: Cluster, job: Object) -> None:
    """A job to its end."""
    container = job["spec"]["template"]["spec"]["containers"][0]
    env = {**os.environ, **cluster.environment(container)}
    done = subprocess.run(
        cluster.command(container), env=env, capture_output=True, text=True, timeout=VERDICT_S, check=False
    )
    assert done.returncode == 0, done.stderr


def _archives(cluster: Cluster, models: Object) -> None:
    """What the init container of the model server does, by its own script."""
    container = models["spec"]["template"]["spec"]["initContainers"][0]
    shell, flag, script = container["command"]
    script = script.replace("/var/lib", f"{cluster.folder}/var/lib")
    script = script.replace("pentimento package", f"{sys.executable} -m tests.helm.pentimento package")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([shell, flag, script], env=env, check=True, capture_output=True, timeout=VERDICT_S)


async def _verdict(kafka: Kafka, web: int) -> None:
    """One upload in, by Kafka, and its verdict out, on Kafka and by the api."""
    connection = KafkaConnection(kafka.bootstrap_servers)
    sender = EventSender(connection, timeout_s=20)
    await sender.start()
    picture = min(SAMPLE.glob("*.jpg"), key=lambda path: path.stat().st_size).read_bytes()
    upload = ImageUploaded(
        upload_id=f"chart-{uuid4().hex[:8]}", image=InlineImage(data=picture), uploaded_at=datetime.now(UTC)
    )
    await sender.send(encode(upload, source="/tests", time=datetime.now(UTC)))
    await sender.stop()
    async with asyncio.timeout(VERDICT_S):
        async for message in EventReader(connection).read(topology.VERDICTS, from_beginning=True):
            verdict = decode(message, VerdictReached)
            if verdict.upload_id == upload.upload_id:
                break
    assert verdict.path.value == "unconstrained"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    address = f"http://127.0.0.1:{web}/api/v1/verdicts/{upload.tenant}/{upload.upload_id}"
    async with httpx.AsyncClient(headers=headers) as client, asyncio.timeout(VERDICT_S):
        while (answer := await client.get(address)).status_code == 404:
            await asyncio.sleep(0.2)
    assert answer.json()["decision"] == verdict.decision.value
