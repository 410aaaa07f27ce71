"""The registry of models, in MLflow: every version that a fit brought, with all that speaks for it.

In: where MLflow keeps it (a server's URL, `sqlite:///FILE` or a folder), an archive, its weights and the gate's report.
Out: versions with the aliases `champion` and `challenger`. What serves is said by the services' database
(`services.promotion`); the aliases follow it and are for people and fits, which go on from the champion.

    python -m trainer.registry add --archive A.mar --weights W.safetensors --report report/ --to URI
    python -m trainer.registry list unconstrained --to URI --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from rich.console import Console
from rich.table import Table

from model_archive import card
from model_archive.package import identity
from services.core.errors import Broken

EXPERIMENT = "pentimento-models"
Alias = Literal["champion", "challenger"]
ALIASES: tuple[Alias, ...] = ("champion", "challenger")
TAGS = ("version", "archive_sha256", "weights_version", "started_from", "data_sha256", "dataset", "gate")


@dataclass(frozen=True, slots=True)
class Entry:
    """A version in the registry: its archive by SHA-256, the weights it holds and started from, the data they were
    fitted on, and what the gate said (`pass`, `refuse`, or empty where it was not asked)."""

    model: str
    version: str
    archive_sha256: str
    weights_version: str
    started_from: str
    data_sha256: str
    dataset: str
    gate: str
    aliases: tuple[str, ...] = ()
    run_id: str = ""


class Registry:
    """MLflow's registry at `uri`. Every method raises Broken where it cannot be reached or holds no such version."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self._uri = _in_database(uri)
        self._client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def add(self, archive: Path, weights: Path, *, report: Path | None = None, dataset: str = "") -> Entry:
        """Keep an archive, its main weights with their card, and the gate's report, and make it the challenger. An
        archive that is kept already stays as it is."""
        model, version = identity(archive)
        about = card.read(weights)
        entry = Entry(
            model=model,
            version=version,
            archive_sha256=card.sha256(archive),
            weights_version=about.version_with(card.sha256(weights)),
            started_from=about.started_from,
            data_sha256=about.data_sha256,
            dataset=dataset,
            gate="" if report is None else json.loads((report / "report.json").read_text())["verdict"],
        )
        with _explained(self._uri):
            for known in self._found(model):
                if known.tags["version"] == version:
                    if known.tags["archive_sha256"] != entry.archive_sha256:
                        raise Broken(f"another archive is version {version} of {model} already: package a new one")
                    return self.get(model, version)
            run_id = self._kept(entry, [archive, weights], json.dumps(asdict(about), indent=1), report)
            self._register(entry, run_id)
        self.name(model, "challenger", version)
        return self.get(model, version)

    def versions(self, model: str) -> list[Entry]:
        """All versions, the newest first."""
        with _explained(self._uri):
            aliases = self._aliases(model)
            return [_entry(model, found, aliases) for found in self._found(model)]

    def get(self, model: str, version: str) -> Entry:
        """A version by its own name or by an alias."""
        for entry in self.versions(model):
            if version == entry.version or version in entry.aliases:
                return entry
        raise Broken(f"the registry has no {version} of {model}: `python -m trainer.registry list {model}` shows all")

    def name(self, model: str, alias: Alias, version: str) -> None:
        """Give an alias to a version; whichever had it loses it."""
        with _explained(self._uri):
            number = next(each.version for each in self._found(model) if each.tags["version"] == version)
            self._client.set_registered_model_alias(model, alias, number)

    def archive(self, entry: Entry, folder: Path) -> Path:
        """The archive of a version, fetched into a folder."""
        with _explained(self._uri):
            name = f"{entry.model}.mar"
            path = Path(self._client.download_artifacts(entry.run_id, name, str(folder)))
        if card.sha256(path) != entry.archive_sha256:
            raise Broken(f"{path} is not the archive that was registered as {entry.version} of {entry.model}")
        return path

    def _kept(self, entry: Entry, files: Sequence[Path], about: str, report: Path | None) -> str:
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        number = experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT, self._place())
        run_id = str(self._client.create_run(number, run_name=f"{entry.model} {entry.version}").info.run_id)
        for path in files:
            self._client.log_artifact(run_id, str(path))
        self._client.log_text(run_id, about, "card.json")
        if report is not None:
            self._client.log_artifacts(run_id, str(report), "gate")
        self._client.set_terminated(run_id)
        return run_id

    def _register(self, entry: Entry, run_id: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(entry.model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        tags = {name: getattr(entry, name) for name in TAGS}
        source = self._client.get_run(run_id).info.artifact_uri
        self._client.create_model_version(entry.model, source, run_id, tags=tags)

    def _found(self, model: str) -> list[Any]:
        found = self._client.search_model_versions(f"name='{model}'")
        return sorted(found, key=lambda each: int(each.version), reverse=True)

    def _aliases(self, model: str) -> dict[str, list[str]]:
        """Aliases by MLflow's own number of the version."""
        from mlflow.exceptions import MlflowException

        try:
            named = self._client.get_registered_model(model).aliases
        except MlflowException:
            return {}
        found: dict[str, list[str]] = {}
        for alias, number in named.items():
            found.setdefault(str(number), []).append(alias)
        return found

    def _place(self) -> str | None:
        """Where files go: beside a local database, else as the server has it."""
        prefix = "sqlite:///"
        if not self._uri.startswith(prefix):
            return None
        return str(Path(self._uri.removeprefix(prefix)).resolve().parent / "mlartifacts")


def _in_database(uri: str) -> str:
    """A folder as a database in it: MLflow's registry of plain files makes a database in the current folder."""
    place = urlparse(uri)
    if place.scheme not in ("", "file"):
        return uri
    folder = Path(place.path).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Whatever a store raises (its database's errors, its files', its connection's) as Broken, with the place."""
    try:
        yield
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"the registry at {uri} failed: {error}. Mend that, or name another place") from error


def _entry(model: str, found: Any, aliases: dict[str, list[str]]) -> Entry:
    known = {name: found.tags.get(name, "") for name in TAGS}
    return Entry(model=model, **known, aliases=tuple(aliases.get(str(found.version), ())), run_id=str(found.run_id))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    options = _parser().parse_args(arguments)
    registry = Registry(options.to)
    match options.act:
        case "add":
            found = [registry.add(options.archive, options.weights, report=options.report, dataset=options.dataset)]
        case "name":
            registry.name(options.model, options.alias, options.version)
            found = [registry.get(options.model, options.version)]
        case _:
            found = registry.versions(options.model)
    if options.json:
        print("\n".join(json.dumps(asdict(entry)) for entry in found))
        return 0
    table = Table("model", "version", "aliases", "gate", "dataset", "started from", "archive")
    for entry in found:
        facts = (entry.gate, entry.dataset, entry.started_from, entry.archive_sha256[:12])
        table.add_row(entry.model, entry.version, ", ".join(entry.aliases), *facts)
    Console().print(table)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.registry", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    acts = parser.add_subparsers(dest="act", required=True)
    add = acts.add_parser("add", help="keep a version, and make it the challenger")
    add.add_argument("--archive", type=Path, required=True, help="<model>.mar, as `pentimento package` builds it")
    add.add_argument("--weights", type=Path, required=True, help="its main network's weights")
    add.add_argument("--report", type=Path, help="the gate's folder")
    add.add_argument("--dataset", default="", help="version of the data that it was fitted on")
    name = acts.add_parser("name", help="give an alias to a version")
    name.add_argument("alias", choices=ALIASES)
    name.add_argument("model")
    name.add_argument("version")
    listed = acts.add_parser("list", help="show the versions of a model")
    listed.add_argument("model")
    for each in (add, name, listed):
        each.add_argument("--to", required=True, metavar="URI", help="where MLflow keeps it")
        each.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
