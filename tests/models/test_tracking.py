"""Records in MLflow: in a real folder, a real database and on a real server, and a fit that outlives that server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run
from rich.console import Console
from werkzeug.serving import BaseWSGIServer, make_server

from model_archive import weights
from trainer.fit import FitSettings, fit
from trainer.fit_settings import parsed
from trainer.tracking import EXPERIMENT, Tracking

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's and SQLAlchemy's own are not ours to mend


@pytest.fixture
def settings(photo_folder: Path, tmp_path: Path) -> FitSettings:
    return FitSettings(
        network="difference",
        photos=(photo_folder / "photos",),
        out=tmp_path / "tracked.safetensors",
        steps=3,
        batch=2,
        size=64,
        workers=0,
        warmup_steps=1,
        checkpoint_every=2,
        calibration_samples=2,
    )


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    with (tmp_path / "said.txt").open("w+") as file:
        yield Console(file=file, width=2000)


def said(tmp_path: Path) -> str:
    return (tmp_path / "said.txt").read_text()


def only_run(track: str) -> tuple[mlflow.MlflowClient, Run]:
    client = mlflow.MlflowClient(tracking_uri=track)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


@pytest.mark.parametrize("kind", ["sqlite:///{}/records.db", "file://{}/records"])
def test_a_fit_is_recorded_with_settings_numbers_and_what_it_made(
    kind: str, settings: FitSettings, console: Console, tmp_path: Path
) -> None:
    track = kind.format(tmp_path)
    card = fit(replace(settings, track=track), console)
    client, run = only_run(track)
    assert run.info.status == "FINISHED"
    assert run.data.params["mining.share"] == "0.0"
    assert run.data.params["seed"] == str(settings.seed)
    assert run.data.params["code_sha256"] == card.code_sha256
    assert "track" not in run.data.params
    assert run.data.metrics["loss"] > 0
    assert run.data.metrics["samples_per_s_fitting"] > 0
    assert client.get_metric_history(run.info.run_id, "loss")[-1].step == 3
    kept = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert kept == {"tracked.safetensors", "tracked.samples.png", "card.json"}
    assert "MLflow" not in said(tmp_path)
    assert not Path("mlruns").exists()


def test_a_resumed_fit_goes_on_with_its_run(settings: FitSettings, console: Console, tmp_path: Path) -> None:
    tracked = replace(settings, track=f"sqlite:///{tmp_path}/records.db")
    fit(replace(tracked, steps=2), console)
    fit(replace(tracked, resume=True), console)
    client, run = only_run(tracked.track)
    assert run.info.status == "FINISHED"
    assert [each.step for each in client.get_metric_history(run.info.run_id, "loss")] == [2, 3]


def test_nothing_is_recorded_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert parsed(["difference"]).track == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert parsed(["difference"]).track == "http://127.0.0.1:5000"
    assert parsed(["difference", "--track", ""]).track == ""


@contextmanager
def served(folder: Path, monkeypatch: pytest.MonkeyPatch, port: int = 0) -> Iterator[BaseWSGIServer]:
    """MLflow's own server, on a database in a folder."""
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{folder}/server.db")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(folder / "artifacts"))
    monkeypatch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "false")
    from mlflow.server import app

    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_numbers_wait_while_the_server_is_away_and_none_is_lost(
    settings: FitSettings, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path, monkeypatch) as server:
        port = server.server_port
        tracked = replace(settings, track=f"http://127.0.0.1:{port}")
        tracking = Tracking(tracked, console, known={"machine": "this one"})
        tracking.numbers(50, {"loss": 0.5})
    tracking.numbers(100, {"loss": 0.4})
    tracking.numbers(150, {"loss": 0.3})
    assert said(tmp_path).count("MLflow did not take numbers") == 1  # once, not at every row
    assert not tracking.file(tmp_path / "said.txt")
    with served(tmp_path, monkeypatch, port):
        tracking.end(well=True)
        client, run = only_run(tracked.track)
        assert [each.value for each in client.get_metric_history(run.info.run_id, "loss")] == [0.5, 0.4, 0.3]
        assert run.info.status == "FINISHED"


def test_a_fit_outlives_its_server_and_says_what_was_lost(
    settings: FitSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path, monkeypatch) as server, (tmp_path / "said.txt").open("w+") as file:
        tracked = replace(settings, track=f"http://127.0.0.1:{server.server_port}")
        console = StoppingConsole(server, file=file, width=2000)
        card = fit(tracked, console)
    assert console.stopped
    assert card.steps == 3
    assert weights.load(settings.out).card == card
    assert "MLflow did not take" in said(tmp_path)
    assert "MLflow never took" in said(tmp_path)
    assert "tracked.safetensors" in said(tmp_path).partition("MLflow never took")[2]


class StoppingConsole(Console):
    """Takes the server away when the fit is at its first checkpoint."""

    def __init__(self, server: BaseWSGIServer, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.server, self.stopped = server, False

    def print(self, *objects: object, **how: object) -> None:
        if objects and str(objects[0]).startswith("step 2"):
            self.server.shutdown()
            self.server.server_close()
            self.stopped = True
        super().print(*objects, **how)  # type: ignore[arg-type]


def test_a_place_that_cannot_be_reached_at_the_start_ends_the_fit_before_anything_is_lost(
    settings: FitSettings, console: Console
) -> None:
    with pytest.raises(ValueError, match="name another place by --track"):
        fit(replace(settings, track="http://127.0.0.1:9"), console)
    assert not settings.checkpoint.exists()
