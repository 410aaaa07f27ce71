"""Records of a fit in MLflow: settings, numbers on the way, pictures and weights at the end. Off unless asked for.

In: where the records are kept: a server's URL, `sqlite:///FILE`, or a folder. Out: one run there. A fit takes hours and
must not die of its records: once begun, whatever fails is a warning, numbers wait in memory, and are sent when the
server is back. A server that cannot be reached at the start ends the program, as nothing is lost by that.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from rich.console import Console

from trainer.fit_settings import FitSettings

EXPERIMENT = "pentimento"
WAITING = 50_000
"""Numbers that are kept at most while nothing can be sent: two days of them. The oldest are dropped then."""

AT_ONCE = 1000  # metrics in one request: MLflow's limit
PAUSE_S, LONGEST_PAUSE_S = 30.0, 600.0  # between attempts while the server is away; doubled each time
_REQUEST = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""Short, as the fit stands still meanwhile: MLflow's own are 120 seconds and 7 attempts. Values set outside win."""


class Tracking:
    """A run that is written to. Only the first process of a fit has one."""

    def __init__(self, settings: FitSettings, console: Console, *, known: Mapping[str, str], run_id: str = "") -> None:
        """Begins a run with all settings and what else is `known`, such as hashes, or goes on with the run `run_id`.

        Raises ValueError where that cannot be done.
        """
        self._console = console
        self._waiting: deque[Any] = deque(maxlen=WAITING)
        self._away_until, self._pause_s = 0.0, PAUSE_S
        for name, value in _REQUEST.items():
            os.environ.setdefault(name, value)
        uri = urlparse(settings.track)
        if uri.scheme in ("", "file"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow's word for: yes, I mean a plain folder
        try:
            import mlflow

            self._client = mlflow.MlflowClient(tracking_uri=settings.track)
            self.run_id = run_id or self._begun(settings)
            if run_id:
                self._client.update_run(run_id, status="RUNNING")
            else:
                self._parameters(settings, known)
        except Exception as error:  # a store raises whatever its database, its files or its connection do
            raise ValueError(
                f"MLflow cannot keep records at {settings.track}: {error}. "
                "Mend that, name another place by --track, or leave --track and MLFLOW_TRACKING_URI out"
            ) from error

    def _begun(self, settings: FitSettings) -> str:
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            place = _artifacts(settings.track)
            number = self._client.create_experiment(EXPERIMENT, artifact_location=place)
        else:
            number = experiment.experiment_id
        run = self._client.create_run(number, run_name=f"{settings.network} {settings.version}")
        return str(run.info.run_id)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics of a step. Where they cannot be sent, they wait for the next ones."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self._waiting.extend(Metric(name, value, now_ms, step) for name, value in values.items())
        self._tried("numbers", self._sent)

    def file(self, path: Path) -> bool:
        """A file as an artefact, in place of an older one of its name. Whether it was taken."""
        return self._tried(path.name, lambda: self._client.log_artifact(self.run_id, str(path)))

    def end(self, *, well: bool, files: Sequence[Path] = (), texts: Mapping[str, str] | None = None) -> None:
        """Hands over files, texts by name, and what still waits, and ends the run; says what was lost."""
        self._away_until = 0.0
        self._tried("numbers", self._sent)
        lost = [path.name for path in files if not self.file(path)]
        for name, content in (texts or {}).items():
            if not self._tried(name, partial(self._client.log_text, self.run_id, content, name)):
                lost.append(name)
        self._tried("the end", lambda: self._client.set_terminated(self.run_id, "FINISHED" if well else "KILLED"))
        if self._waiting:
            lost.append(f"{len(self._waiting)} numbers")
        if lost:
            self._say(f"MLflow never took {', '.join(lost)}. What the fit wrote lies where it always does")

    def _parameters(self, settings: FitSettings, known: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        values = asdict(settings)
        del values["track"]  # a URL may hold a password
        flat = {**_flat(values), **known}
        self._client.log_batch(self.run_id, params=[Param(name, value[:6000]) for name, value in flat.items()])

    def _sent(self) -> None:
        while self._waiting:
            some = [self._waiting[i] for i in range(min(AT_ONCE, len(self._waiting)))]
            self._client.log_batch(self.run_id, metrics=some)
            for _ in some:
                self._waiting.popleft()

    def _tried(self, what: str, act: Callable[[], object]) -> bool:
        """Whether something could be done. After a failure nothing is tried for a while."""
        if time.monotonic() < self._away_until:
            return False
        try:
            act()
        except Exception as error:  # whatever it is, it must not end a fit of hours
            self._away_until = time.monotonic() + self._pause_s
            self._say(
                f"MLflow did not take {what}: {type(error).__name__}: {str(error)[:300]}. The fit goes on; numbers "
                f"wait, the next attempt is in {self._pause_s:.0f} s"
            )
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            return False
        if self._pause_s > PAUSE_S:
            self._say("MLflow takes records again")
        self._pause_s = PAUSE_S
        return True

    def _say(self, text: str) -> None:
        self._console.print(text, style="yellow", markup=False)


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested settings as `name.part`, all of them text."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{above}{name}.")
        elif isinstance(value, tuple):
            flat[f"{above}{name}"] = " ".join(str(each) for each in value)
        else:
            flat[f"{above}{name}"] = str(value)
    return flat


def _artifacts(track: str) -> str | None:
    """Where files go: beside a local database, not where the fit was started; else as the server has it."""
    prefix = "sqlite:///"
    if not track.startswith(prefix):
        return None
    return str(Path(track.removeprefix(prefix)).resolve().parent / "mlartifacts")
