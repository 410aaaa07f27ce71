"""The embedded model server, for real, with models that need no weights."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.core.errors import Unavailable
from services.local import leash
from services.local.torchserve import TorchServe, archive_identity
from tests.local.processes import LOOPBACK_ADDRESSES, alive, eventually, listening_addresses
from tests.local.toy_archives import toy_store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """One that this module may kill, with a single toy model."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TOY_DSN", "postgresql://secret")
        own = TorchServe(folder / "server", model_store=toy_store(folder / "store", "toy"))
        own.start()
    yield own
    own.stop()


def token(server: TorchServe, purpose: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {json.loads(server.key_file.read_text())[purpose]['key']}"}


def predict(server: TorchServe, body: bytes = b"x", headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.post(f"{server.url}/predictions/toy", content=body, headers=headers, timeout=30)


def test_a_request_with_the_token_is_answered_by_one_worker_with_its_share_of_the_cores(server: TorchServe) -> None:
    answer = predict(server, headers=token(server, "inference"))
    assert answer.json() == {"batch": 1, "threads": str(max(1, (os.cpu_count() or 1) // 2)), "dsn": None}


def test_a_request_without_the_token_is_refused(server: TorchServe) -> None:
    assert predict(server).status_code == httpx.codes.BAD_REQUEST
    assert predict(server, headers=token(server, "management")).status_code == httpx.codes.BAD_REQUEST


def test_the_tokens_are_readable_by_their_owner_alone_and_never_logged(server: TorchServe) -> None:
    assert stat.S_IMODE(server.key_file.stat().st_mode) == 0o600
    log = server.log_file.read_text()
    assert not [key for key in json.loads(server.key_file.read_text()).values() if key["key"] in log]


def test_a_full_resolution_picture_fits_into_a_request(server: TorchServe) -> None:
    assert predict(server, bytes(30_000_000), token(server, "inference")).status_code == httpx.codes.OK


def test_nobody_can_register_or_remove_a_model(server: TorchServe) -> None:
    headers = token(server, "management")
    models = f"{server.management_url}/models"
    registered = httpx.post(f"{models}?url=file:///tmp/other.mar", headers=headers)
    removed = httpx.delete(f"{models}/toy", headers=headers)
    assert (registered.status_code, removed.status_code) == (405, 405)


def test_it_listens_on_the_loopback_address_alone(server: TorchServe) -> None:
    assert server.pid is not None
    addresses = listening_addresses(server.pid)
    assert addresses
    assert addresses <= LOOPBACK_ADDRESSES


def test_the_model_is_served_with_the_batching_and_deadlines_that_were_set(server: TorchServe) -> None:
    described = httpx.get(f"{server.management_url}/models/toy", headers=token(server, "management")).json()[0]
    wanted = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 4, "maxBatchDelay": 20, "responseTimeout": 120}
    assert {name: described[name] for name in wanted} == wanted


def test_a_crash_takes_the_python_workers_with_it_and_a_restart_makes_new_tokens(server: TorchServe) -> None:
    assert server.pid is not None
    before = (server.url, token(server, "inference"))
    workers = leash.descendants(server.pid)
    assert workers
    os.kill(server.pid, signal.SIGKILL)
    assert server.wait(10)
    eventually(lambda: not any(alive(worker) for worker in workers))
    server.start()
    assert server.url == before[0]
    assert token(server, "inference") != before[1]
    assert predict(server, headers=token(server, "inference")).status_code == httpx.codes.OK


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.mar").write_bytes(b"not a zip")
    with pytest.raises(Unavailable, match=r"broken\.mar is no model archive"):
        TorchServe(tmp_path / "server", model_store=tmp_path).start()


def test_an_empty_store_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no model archive \(\*\.mar\)"):
        TorchServe(tmp_path / "server", model_store=tmp_path).start()


def test_name_and_version_of_a_model_come_from_its_manifest(tmp_path: Path) -> None:
    assert archive_identity(toy_store(tmp_path, "toy") / "toy.mar") == ("toy", "1.0")
