"""The embedded stack: Kafka, PostgreSQL, TorchServe, an object folder, workers and the web process, in one folder.

In: a data folder and `StackOptions`. Out: a `Stack` with every address, and `settings.env` in the folder, from which
the command line and the workers take them. A component whose address is given from outside is not started. Run as
`python -m services.local.stack DATA_DIR` it is the supervisor process that `pentimento up` starts.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.fernet import Fernet

from services.core.errors import PentimentoError
from services.local.files import write_private
from services.local.kafka import Kafka
from services.local.options import MODEL_PORTS, OPTIONS_FILE, Addresses, StackOptions, without_password
from services.local.ports import LOOPBACK, kept_ports
from services.local.postgres import Postgres
from services.local.program import OwnProcess, Program, python_module
from services.local.state import ComponentState, Phase, StackState, held_lock, write_state
from services.local.supervisor import Kept, Supervisor
from services.local.topics import create_topics
from services.local.torchserve import EMBEDDER, JUDGES, ServerPorts, TorchServe
from services.opening import kafka_connection
from services.settings import load_settings

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
EXIT_FAILED = 1


class Stack:
    """The parts, wired. `on_change` hears of every change of state, from other threads, one call at a time.

    Raises Unavailable when a port that was asked for is in use.
    """

    def __init__(
        self, data_dir: Path, options: StackOptions, on_change: Callable[[StackState], None] | None = None
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.options = options
        self._on_change = on_change
        self._phase = Phase.STARTING
        self._started_at = datetime.now(UTC)
        self._ports = kept_ports(options.port_names(), self.data_dir / "ports.json", options.ports)
        self._kept: list[Kept] = []
        self._external: list[ComponentState] = []
        self._serving: dict[str, str] = {}
        self._changing = threading.Lock()
        self.addresses = self._infrastructure()
        self._programs()
        self._supervisor = Supervisor(self._kept, self._changed)

    @property
    def components(self) -> dict[str, Kept]:
        """What is started here, by name."""
        return {kept.component.name: kept for kept in self._kept}

    @property
    def environment(self) -> dict[str, str]:
        """Settings of every process of ours, as variables."""
        embedding = {"PENTIMENTO_EMBEDDER__ENABLED": "true"} if self.options.embedder else {}
        keys = {"PENTIMENTO_WEBHOOKS__KEYS": os.environ.get("PENTIMENTO_WEBHOOKS__KEYS") or self._webhook_keys()}
        return self.addresses.environment(self.data_dir) | self._serving | embedding | keys

    @property
    def state(self) -> StackState:
        """A snapshot."""
        return StackState(
            phase=self._phase,
            supervisor_pid=os.getpid(),
            started_at=self._started_at,
            components=[*self._external, *self._supervisor.states],
        )

    def start(self, cancelled: threading.Event | None = None) -> None:
        """Start everything and wait until it serves. Raises Unavailable; call `stop` also then."""
        lines = [f"{name}='{value}'\n" for name, value in self.environment.items()]
        write_private(self.data_dir / "settings.env", "".join(lines))
        if self.options.kafka_bootstrap is not None:
            create_topics(kafka_connection(load_settings(self.data_dir).kafka))
        self._changed()
        self._supervisor.start(cancelled)
        self._enter(Phase.RUNNING)

    def stop(self, last_phase: Phase = Phase.STOPPED) -> None:
        """Stop everything in reverse order; returns when nothing runs."""
        self._enter(Phase.STOPPING)
        self._supervisor.stop()
        self._enter(last_phase)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _infrastructure(self) -> Addresses:
        objects = self.data_dir / "objects"
        if self.options.objects_url is None:
            objects.mkdir(parents=True, exist_ok=True)
        else:
            self._note_external("objects", self.options.objects_url)
        kafka_bootstrap, postgres_dsn = self._kafka(), self._postgres()
        models_url, models_key_file = self._models()
        return Addresses(
            kafka_bootstrap=kafka_bootstrap,
            postgres_dsn=postgres_dsn,
            models_url=models_url,
            models_key_file=models_key_file,
            objects_url=self.options.objects_url or objects.as_uri(),
            web_url=f"http://{LOOPBACK}:{self._ports['web']}" if self.options.web else None,
        )

    def _kafka(self) -> str:
        if self.options.kafka_bootstrap is not None:
            self._note_external("kafka", self.options.kafka_bootstrap)
            return self.options.kafka_bootstrap
        ports = {"kafka": self._ports["kafka"], "kafka-controller": self._ports["kafka-controller"]}
        kafka = Kafka(
            self.data_dir / "kafka",
            ports["kafka"],
            controller_port=ports["kafka-controller"],
            cache_dir=self.options.cache_dir,
            log_file=self._log("kafka"),
        )
        self._kept.append(Kept(kafka, address=kafka.bootstrap_servers, ports=ports))
        return kafka.bootstrap_servers

    def _postgres(self) -> str:
        if self.options.postgres_dsn is not None:
            self._note_external("postgres", without_password(self.options.postgres_dsn))
            return self.options.postgres_dsn
        port = self._ports["postgres"]
        postgres = Postgres(self.data_dir / "postgres", port, log_file=self._log("postgres"))
        address = without_password(postgres.dsn)
        self._kept.append(Kept(postgres, address=address, ports={"postgres": port}))
        return postgres.dsn

    def _models(self) -> tuple[str, Path | None]:
        if self.options.models_url is not None:
            self._note_external("torchserve", self.options.models_url)
            return self.options.models_url, self.options.models_key_file
        ports = {name: self._ports[name] for name in MODEL_PORTS.values()}
        torchserve = TorchServe(
            self.data_dir / "torchserve",
            ServerPorts(**{field: ports[name] for field, name in MODEL_PORTS.items()}),
            model_store=self.options.model_store,
            models=(*JUDGES, EMBEDDER) if self.options.embedder else JUDGES,
            model_api=self.options.promotions,
            log_file=self._log("torchserve"),
        )
        self._kept.append(Kept(torchserve, address=torchserve.url, ports=ports))
        self._serving = {
            "PENTIMENTO_SERVING__MANAGEMENT_URL": torchserve.management_url,
            "PENTIMENTO_SERVING__METRICS_URL": torchserve.metrics_url,
            "PENTIMENTO_SERVING__STORE": str(torchserve.store),
        }
        return torchserve.url, torchserve.key_file

    def _webhook_keys(self) -> str:
        """The key that seals webhook secrets, made at first need."""
        file = self.data_dir / "webhooks.key"
        if not file.exists():
            write_private(file, Fernet.generate_key().decode())
        return json.dumps([file.read_text()])

    def _programs(self) -> None:
        """Workers, the web process, and what was asked for besides.

        They cannot start without broker and database. The model server takes longest and may come later: a judge waits
        for it, as it does whenever that is away.
        """
        needs = tuple(name for name in self.components if name != "torchserve")
        for group, name in self.options.worker_names():
            env = {"PENTIMENTO_TELEMETRY__PORT": str(self._ports[name])}
            self._keep(name, python_module("services.worker", group), env, needs)
        if self.options.web:
            self._keep("web", python_module("services.web"), {}, needs)
        for program in self.options.extra:
            own = replace(program, env={**self.environment, **program.env})
            process = OwnProcess(own, self._log(own.name))
            self._kept.append(Kept(process, needs, own.ready_url, own.ports))

    def _keep(self, name: str, command: tuple[str, ...], env: dict[str, str], needs: tuple[str, ...]) -> None:
        port = self._ports[name]
        address = f"http://{LOOPBACK}:{port}"
        ready = f"{address}/readyz?stale=ok"  # a stack that was down may have originals to catch up with
        program = Program(name, command, {**self.environment, **ONE_THREAD, **env}, ready, {name: port})
        self._kept.append(Kept(OwnProcess(program, self._log(name)), needs, address, {name: port}))

    # -- state -----------------------------------------------------------------------------------------------------

    def _log(self, name: str) -> Path:
        return self.data_dir / "logs" / f"{name}.log"

    def _note_external(self, name: str, address: str) -> None:
        self._external.append(ComponentState(name=name, phase=Phase.EXTERNAL, address=address))

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._changed()

    def _changed(self) -> None:
        if self._on_change is not None:
            with self._changing:
                self._on_change(self.state)


@contextmanager
def running_stack(
    data_dir: Path, options: StackOptions | None = None, on_change: Callable[[StackState], None] | None = None
) -> Iterator[Stack]:
    """A stack that this process holds, stopped at the end. Raises Unavailable where it cannot be had."""
    with held_lock(data_dir):
        stack = Stack(data_dir, options or StackOptions(), on_change)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()


def supervise(data_dir: Path, options: StackOptions, on_change: Callable[[StackState], None] = lambda _: None) -> int:
    """Hold the stack until SIGTERM or SIGINT. Returns the exit status; the state file says the rest."""

    def changed(state: StackState) -> None:
        write_state(data_dir, state)
        on_change(state)

    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    try:
        with held_lock(data_dir):
            stack = Stack(data_dir, options, changed)
            last = Phase.FAILED
            try:
                stack.start(told)
                last = Phase.STOPPED
                told.wait()
            finally:
                stack.stop(Phase.STOPPED if told.is_set() else last)
    except PentimentoError as error:
        print(error, file=sys.stderr, flush=True)
        return EXIT_FAILED
    return 0


def main() -> None:
    """Entry point of the supervisor process: the data folder is the only argument, the options lie in it."""
    data_dir = Path(sys.argv[1])
    options = StackOptions.model_validate_json((data_dir / "run" / OPTIONS_FILE).read_bytes())
    sys.exit(supervise(data_dir, options))


if __name__ == "__main__":
    main()
