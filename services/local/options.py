"""What the embedded stack is asked to run, and where it then is.

In: options from the command line or a test, and addresses from the environment. Out: values. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from services.local.ports import LOOPBACK
from services.local.program import Program

OPTIONS_FILE = "options.json"

MODEL_PORTS = {
    "inference": "models",
    "management": "models-management",
    "metrics": "models-metrics",
    "grpc_inference": "models-grpc",
    "grpc_management": "models-grpc-management",
}
"""TorchServe's listeners, and the names of their ports."""

EXTERNAL = {
    "kafka_bootstrap": "PENTIMENTO_KAFKA__BOOTSTRAP_SERVERS",
    "postgres_dsn": "PENTIMENTO_POSTGRES__DSN",
    "models_url": "PENTIMENTO_MODELS__URL",
    "objects_url": "PENTIMENTO_OBJECTS__URL",
}
"""Options that a setting can give, too."""


class StackOptions(BaseModel):
    """What to run. An address given here replaces the component; `ports` are wished for by name (see `port_names`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka_bootstrap: str | None = None
    postgres_dsn: str | None = None
    models_url: str | None = None
    models_key_file: Path | None = None
    objects_url: str | None = None
    ports: dict[str, int] = {}
    workers: dict[str, int] = {"intake": 1, "judge": 1, "learn": 1}
    web: bool = True
    model_store: Path | None = None
    embedder: bool = False
    promotions: bool = False
    cache_dir: Path | None = None
    extra: tuple[Program, ...] = ()

    def worker_names(self) -> list[tuple[str, str]]:
        """(group, process name) of every worker process."""
        return [(group, f"{group}-{number}") for group, count in self.workers.items() for number in range(1, count + 1)]

    def port_names(self) -> list[str]:
        """The names under which the stack's own components get their ports."""
        return [
            *(["kafka", "kafka-controller"] if self.kafka_bootstrap is None else []),
            *(["postgres"] if self.postgres_dsn is None else []),
            *(MODEL_PORTS.values() if self.models_url is None else []),
            *(name for _, name in self.worker_names()),
            *(["web"] if self.web else []),
        ]


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is, embedded or external."""

    kafka_bootstrap: str
    postgres_dsn: str
    models_url: str
    models_key_file: Path | None
    objects_url: str
    web_url: str | None

    def environment(self, data_dir: Path) -> dict[str, str]:
        """The same as settings (`services/settings.py`)."""
        values = {
            "PENTIMENTO_DATA_DIR": str(data_dir),
            "PENTIMENTO_KAFKA__BOOTSTRAP_SERVERS": self.kafka_bootstrap,
            "PENTIMENTO_POSTGRES__DSN": self.postgres_dsn,
            "PENTIMENTO_OBJECTS__URL": self.objects_url,
            "PENTIMENTO_MODELS__URL": self.models_url,
        }
        if self.models_key_file is not None:
            values["PENTIMENTO_MODELS__KEY_FILE"] = str(self.models_key_file)
        if self.web_url is not None:
            values["PENTIMENTO_WEB__PORT"] = self.web_url.rpartition(":")[2]
        return values


def external_addresses(environment: Mapping[str, str], data_dir: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """Options for the addresses in `environment` that are not this stack's own.

    Whoever loads `settings.env` into a shell has our own addresses there; they must not keep us from starting. `ports`
    are the ones that the stack kept from its last run.
    """
    ours = {
        "kafka_bootstrap": f"{LOOPBACK}:{ports.get('kafka')}",
        "postgres_dsn": f"{LOOPBACK}:{ports.get('postgres')}/pentimento",
        "models_url": f"{LOOPBACK}:{ports.get('models')}",
        "objects_url": str(data_dir / "objects"),
    }
    given = {option: environment.get(variable) for option, variable in EXTERNAL.items()}
    return {option: value for option, value in given.items() if value and not value.endswith(ours[option])}


def without_password(dsn: str) -> str:
    """A database URL as it may be shown: host, port and database; "(given)" for other connection strings."""
    url = urlsplit(dsn)
    if url.scheme not in ("postgresql", "postgres"):
        return "(given)"
    return f"{url.hostname or ''}:{url.port or 5432}{url.path}"
