"""Commands on a real stack: originals, uploads and their verdicts, dead letters and their replay."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from services.cli.connections import messages, opened_database, opened_sender
from services.cli.originals_import import BATCH
from services.clients.ledger import Ledger
from services.core import topology
from services.core.envelope import Message, decode
from services.core.events import DeadLetter, VerdictReached
from services.core.intake.fingerprint import MAX_DISTANCE, distance, fingerprint
from services.core.pixels import open_image
from services.settings import load_settings
from tests.cli.conftest import SAMPLES, Pentimento
from tests.clients.examples import OLD, doubted

UPLOADS, ORIGINALS = SAMPLES / "uploads", SAMPLES / "originals"


@pytest.fixture
def tenant() -> str:
    """Whose images a test's are: tests do not meet each other's originals."""
    return f"t-{uuid4().hex[:12]}"


def test_an_upload_is_compared_with_the_original_that_was_added_before(on_stack: Pentimento, tenant: str) -> None:
    (added,) = on_stack("originals", "add", ORIGINALS / "windmill.jpg", "--tenant", tenant, "--json").lines
    assert (added["findable"], added["prepared"]) == (True, True)
    told = on_stack("submit", UPLOADS / "windmill-giraffe.jpg", "--tenant", tenant, "--wait", "--json")
    assert told.status == 0, told.stderr
    (verdict,) = told.lines
    assert verdict["decision"] == "manipulated"
    assert verdict["path"] == "constrained-spg"
    assert verdict["candidate"]["original_id"] == added["original_id"]
    assert verdict["filename"] == "windmill-giraffe.jpg"


def test_adding_an_original_again_is_the_same_original(on_stack: Pentimento, tenant: str) -> None:
    command = ("originals", "add", ORIGINALS / "pier.jpg", "--tenant", tenant, "--json")
    assert on_stack(*command).lines == on_stack(*command).lines


def test_an_original_that_is_no_picture_is_refused_with_the_reason(
    on_stack: Pentimento, tenant: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    told = on_stack("originals", "add", tmp_path / "broken.jpg", "--tenant", tenant)
    assert told.status == 1
    assert "broken-" in told.stderr
    assert "1 of 1 originals were not registered" in told.stderr


def test_a_library_is_imported_listed_and_removed(on_stack: Pentimento, tenant: str, tmp_path: Path) -> None:
    for name in ("windmill.jpg", "pier.jpg"):
        (tmp_path / name).write_bytes((ORIGINALS / name).read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    manifest = tmp_path / "library.csv"
    manifest.write_text("path,source\npier.jpg,\ngone.jpg,\n../out.jpg,\nbroken.jpg,\nwindmill.jpg,agency\n")
    command = ("originals", "import", manifest, "--source", "museum", "--tenant", tenant, "--json")

    told = on_stack(*command)
    assert told.status == 1
    bad = {line["line"]: line["error"] for line in told.lines if "error" in line}
    assert set(bad) == {3, 4}
    assert "No such file" in bad[3]
    assert {line["file"]: line["findable"] for line in told.lines if "file" in line} == {
        "pier.jpg": True, "broken.jpg": False, "windmill.jpg": True
    }  # fmt: skip
    assert "line 5: original broken-" in told.stderr
    assert "3 rows were not registered" in told.stderr

    listed = on_stack("originals", "list", "--tenant", tenant, "--limit", "0", "--json").lines
    assert {line["source"]: line["original_id"].rsplit("-", 1)[0] for line in listed} == {
        "museum": "pier", "agency": "windmill"
    }  # fmt: skip
    assert all(len(line["sha256"]) == 64 and line["width"] > 0 for line in listed)
    assert [line["registered_at"] for line in listed] == sorted(
        (line["registered_at"] for line in listed), reverse=True
    )
    table = on_stack("originals", "list", "--tenant", tenant, "--limit", "1")
    assert f"{listed[0]['width']}x{listed[0]['height']}" in table.stdout
    assert listed[1]["sha256"][:12] not in table.stdout
    assert f"1 of 2 trusted originals of tenant {tenant}" in table.stderr

    (tmp_path / "gone.jpg").write_bytes((ORIGINALS / "windmill.jpg").read_bytes() + b"\x00")
    again = on_stack(*command)
    assert [line["file"] for line in again.lines if "file" in line] == ["gone.jpg"]  # the others were sent before
    assert "3 rows were sent by an earlier run" in again.stderr

    windmill = next(line["original_id"] for line in listed if line["source"] == "agency")
    gone = next(line["original_id"] for line in again.lines if "file" in line)
    removing = ("originals", "remove", windmill, "never-there", gone, "--tenant", tenant, "--yes", "--json")
    removed = on_stack(*removing)
    assert removed.status == 1
    assert [line["removed"] for line in removed.lines] == [True, False, True]
    assert f"tenant {tenant} has no trusted original never-there" in removed.stderr
    assert [line["removed"] for line in on_stack(*removing).lines] == [False] * 3
    left = on_stack("originals", "list", "--tenant", tenant, "--json").lines
    assert [line["source"] for line in left] == ["museum"]
    told = on_stack("submit", UPLOADS / "windmill-giraffe.jpg", "--tenant", tenant, "--wait", "--json")
    assert told.lines[0]["path"] == "unconstrained"
    added = on_stack("originals", "add", tmp_path / "windmill.jpg", "--tenant", tenant, "--json")
    assert [line["findable"] for line in added.lines] == [True]


def test_an_import_that_intake_does_not_follow_stops_and_can_be_resumed(
    on_stack: Pentimento, tenant: str, tmp_path: Path
) -> None:
    (tmp_path / "pier.jpg").write_bytes((ORIGINALS / "pier.jpg").read_bytes())
    manifest = tmp_path / "library.csv"
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")  # never findable, and refused too late to tell
    rows = ["broken.jpg,0.jpg", *(f"pier.jpg,{number}.jpg" for number in range(1, BATCH + 5))]
    manifest.write_text("\n".join(("path,name", *rows)))
    told = on_stack("originals", "import", manifest, "--tenant", tenant, "--timeout", "0", "--json")
    assert told.status == 1
    assert "stopped, because" in told.stderr
    assert len(told.lines) == BATCH
    resumed = on_stack("originals", "import", manifest, "--tenant", tenant, "--json")
    assert resumed.status == 0, resumed.stderr
    assert [line["file"] for line in resumed.lines] == [f"{number}.jpg" for number in range(BATCH, BATCH + 5)]


@pytest.mark.slow
def test_an_original_that_comes_late_is_reported(on_stack: Pentimento, tenant: str) -> None:
    upload = f"{tenant}-forged"
    submitted = ("submit", UPLOADS / "windmill-giraffe.jpg", "--id", upload, "--tenant", tenant, "--wait", "--json")
    assert on_stack(*submitted).lines[0]["path"] == "unconstrained"
    assert on_stack("originals", "late", "--tenant", tenant, "--json").lines == []
    on_stack("originals", "add", ORIGINALS / "windmill.jpg", "--tenant", tenant)
    told = on_stack("originals", "late", "--tenant", tenant, "--json")
    while [line["state"] for line in told.lines] != ["revised"]:
        assert all(line["state"] in ("queued", "sent") for line in told.lines), told.lines
        told = on_stack("originals", "late", "--tenant", tenant, "--json")
    assert told.lines[0]["uploads"] == 1
    assert "revised" in on_stack("originals", "late", "--tenant", tenant).stdout
    verdicts = on_stack("verdicts", "--tenant", tenant, "--json")
    while verdicts.lines[0]["revision"] == 0:  # until learn has it
        verdicts = on_stack("verdicts", "--tenant", tenant, "--json")
    assert [(line["upload_id"], line["revision"], line["path"]) for line in verdicts.lines] == [
        (upload, 1, "constrained-spg")
    ]


def test_a_doubtful_verdict_of_an_older_model_is_judged_again_and_reported(on_stack: Pentimento, tenant: str) -> None:
    upload, path = f"{tenant}-doubtful", UPLOADS / "windmill-giraffe.jpg"
    asyncio.run(_judged_before(on_stack, doubted(path.read_bytes(), upload, tenant=tenant)))
    submitted = on_stack("submit", path, "--id", upload, "--tenant", tenant, "--wait", "--json")
    assert submitted.lines[0]["models"] == [OLD.model_dump()]
    while not on_stack("verdicts", "--tenant", tenant, "--json").lines:
        pass  # until learn has it
    asking = ("rejudge", "--tenant", tenant, "--json")
    (count,) = on_stack(*asking, "--dry-run").lines
    assert (count["path"], count["decision"], count["uploads"]) == ("unconstrained", "inconclusive", 1)
    assert on_stack(*asking, "--until", "2020-01-01").lines == []
    (run,) = on_stack(*asking, "--rate", "10").lines
    assert run["queued"] == 1
    assert "there is nothing to judge again" in on_stack(*asking).stderr

    reading = ("rejudge", "report", "--run", str(run["run"]))
    told = on_stack(*reading, "--json").lines
    while set(told[0]["states"]) <= {"queued", "sent"}:
        told = on_stack(*reading, "--json").lines
    assert (told[0]["states"], told[0]["judged"], told[0]["models"]) == ({"revised": 1}, 1, run["models"])
    (flow,) = told[0]["flows"]
    assert flow["was"] == "inconclusive"
    assert len(told) - 1 == told[0]["flipped"] == (flow["became"] != "inconclusive")
    assert flow["became"] in on_stack(*reading).stdout
    verdicts = on_stack("verdicts", "--tenant", tenant, "--json")
    while verdicts.lines[0]["revision"] == 0:  # until learn has it
        verdicts = on_stack("verdicts", "--tenant", tenant, "--json")
    assert verdicts.lines[0]["reasons"][-1]["code"] == "new_models"
    assert "1 judged again" in on_stack(*reading).stderr
    unknown = on_stack("rejudge", "report", "--run", "999999")
    assert (unknown.status, "there is no run 999999" in unknown.stderr) == (1, True)


async def _judged_before(pentimento: Pentimento, verdict: VerdictReached) -> None:
    """Puts a verdict into the ledger before judge sees its upload: the first writer wins."""
    async with opened_database(load_settings(pentimento.data)) as database:
        await Ledger(database).claim(verdict)


def test_the_stop_list_is_listed_added_to_and_removed_from(on_stack: Pentimento, tenant: str, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "white").save(tmp_path / "blank.png")
    on_stack("originals", "add", tmp_path / "blank.png", "--tenant", tenant)
    (added,) = on_stack("originals", "add", ORIGINALS / "windmill.jpg", "--tenant", tenant, "--json").lines
    listing = ("originals", "stop-list", "list", "--tenant", tenant, "--json")
    (flat,) = on_stack(*listing).lines
    assert (flat["reason"], flat["pictures"], flat["removed"]) == ("flat", 1, False)

    adding = ("originals", "stop-list", "add", added["original_id"], "--tenant", tenant, "--note", "too famous")
    (manual,) = on_stack(*adding, "--distance", "80", "--json").lines
    assert (manual["reason"], manual["for"], manual["pictures"], manual["distance"]) == ("manual", "all", 1, 80)
    assert "too famous" in on_stack(*listing[:-1]).stdout
    told = on_stack("submit", UPLOADS / "windmill-giraffe.jpg", "--tenant", tenant, "--wait", "--json")
    stopped = told.lines[0]["path"]

    removing = ("originals", "stop-list", "remove", str(manual["entry"]), "--tenant", tenant)
    assert on_stack(*removing, "--json").lines[0]["pictures"] == 1 + (stopped == "unconstrained")
    assert on_stack(*removing).status == 1
    assert {line["entry"] for line in on_stack(*listing, "--all").lines} == {flat["entry"], manual["entry"]}
    assert [line["entry"] for line in on_stack(*listing).lines] == [flat["entry"]]
    unknown = on_stack("originals", "stop-list", "add", "never-there", "--tenant", tenant)
    assert unknown.status == 1
    assert "never-there" in unknown.stderr


def test_a_quarter_of_an_original_is_found_by_its_vectors_where_its_hash_says_nothing(
    on_stack: Pentimento, tenant: str, tmp_path: Path
) -> None:
    (added,) = on_stack("originals", "add", ORIGINALS / "pier.jpg", "--tenant", tenant, "--json").lines
    with Image.open(ORIGINALS / "pier.jpg") as whole:
        part = whole.crop((0, 0, int(whole.width * 0.58), int(whole.height * 0.6)))
    part.save(tmp_path / "part.jpg", quality=85)
    hashes = [
        fingerprint(open_image(path.read_bytes())).pdq for path in (ORIGINALS / "pier.jpg", tmp_path / "part.jpg")
    ]
    assert distance(*hashes) > MAX_DISTANCE
    (verdict,) = on_stack("submit", tmp_path / "part.jpg", "--tenant", tenant, "--wait", "--json").lines
    assert verdict["candidate"]["original_id"] == added["original_id"]


def test_originals_are_embedded_anew_until_none_is_missing(on_stack: Pentimento, tenant: str) -> None:
    on_stack("originals", "add", ORIGINALS / "pier.jpg", "--tenant", tenant)
    told = on_stack("originals", "reindex", "--json")
    assert told.status == 0, told.stderr
    assert (told.lines[-1]["active"], told.lines[-1]["missing"]) == (True, 0)
    (state,) = on_stack("originals", "embedders", "--json").lines
    assert (state["embedder"], state["state"]) == (told.lines[-1]["embedder"], "active")


def test_inline_uploads_of_a_folder_get_a_table_of_verdicts(on_stack: Pentimento, tenant: str, tmp_path: Path) -> None:
    for name in ("pier-moving.gif", "truncated.jpg"):
        (tmp_path / name).write_bytes((UPLOADS / name).read_bytes())
    told = on_stack("submit", tmp_path, "--inline", "--tenant", tenant, "--wait")
    assert told.status == 0, told.stderr
    assert "pier-moving.gif" in told.stdout
    assert "rejected" in told.stdout
    assert "ends before its picture does" in told.stdout


def test_a_url_whose_host_is_not_allowed_is_a_rejected_verdict(on_stack: Pentimento, tenant: str) -> None:
    told = on_stack("submit", "https://images.example.com/a.png", "--tenant", tenant, "--wait", "--json")
    assert told.status == 0, told.stderr
    assert told.lines[0]["reasons"][0]["code"] == "url_not_allowed"


def test_verdicts_are_listed_newest_first_and_filtered(on_stack: Pentimento, tenant: str) -> None:
    for name in ("truncated.jpg", "bomb.png", "pier-moving.gif"):
        told = on_stack("submit", UPLOADS / name, "--id", f"{tenant}-{name}", "--tenant", tenant, "--wait", "--json")
        assert told.lines[0]["upload_id"] == f"{tenant}-{name}"
    listed = on_stack("verdicts", "--tenant", tenant, "--json").lines
    assert [verdict["filename"] for verdict in listed] == ["pier-moving.gif", "bomb.png", "truncated.jpg"]
    rejected = on_stack("verdicts", "--tenant", tenant, "--decision", "rejected", "--limit", "1", "--json").lines
    assert [verdict["filename"] for verdict in rejected] == ["bomb.png"]


def test_a_wait_that_is_too_short_names_the_uploads_without_a_verdict(on_stack: Pentimento, tenant: str) -> None:
    told = on_stack("submit", UPLOADS / "capsule.jpg", "--tenant", tenant, "--id", f"{tenant}-late", "--wait",
                    "--timeout", "0")  # fmt: skip
    assert told.status == 1
    assert f"{tenant}-late" in told.stderr


def test_followed_verdicts_come_as_they_are_reached(on_stack: Pentimento, tenant: str) -> None:
    with following(on_stack.data, "--tenant", tenant, "--limit", "1", "--json") as process:
        while process.poll() is None:  # it hears what comes after it began to listen, so it is told until it heard
            on_stack("submit", UPLOADS / "truncated.jpg", "--tenant", tenant, "--wait")
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    (verdict,) = map(json.loads, output.splitlines())
    assert verdict["tenant"] == tenant


def test_a_dead_letter_is_listed_shown_and_redriven_with_its_own_bytes(on_stack: Pentimento, tenant: str) -> None:
    poison = Message(topology.UPLOADS, tenant.encode(), b'{"no": "upload"}', (("ce_id", tenant.encode()),))
    asyncio.run(send(on_stack, poison))
    letter = asyncio.run(first_letter(on_stack, poison))

    listed = {line["id"]: line for line in on_stack("replay", "list", "--json").lines}
    assert listed[letter]["kind"] == "undecodable"
    assert letter[:8] in on_stack("replay", "list").stdout
    shown = on_stack("replay", "show", letter)
    assert '"no": "upload"' in shown.stdout
    assert tenant in shown.stdout

    told = on_stack("replay", "redrive", letter, "--rate", "100", "--json")
    assert told.lines == [{"id": letter, "topic": topology.UPLOADS, "redriven": True}]
    assert letter not in {line["id"] for line in on_stack("replay", "list", "--json").lines}
    again = asyncio.run(everything(on_stack, poison))
    assert [(message.value, message.headers) for message in again] == [(poison.value, poison.headers)] * 2
    assert on_stack("replay", "show", letter).status == 1


@contextmanager
def following(data: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", "from services.cli import main; main()", "verdicts", "--follow", *arguments]
    environment = {**os.environ, "PENTIMENTO_DATA_DIR": str(data)}
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        yield process
        process.kill()


async def send(on: Pentimento, message: Message) -> None:
    async with opened_sender(load_settings(on.data)) as sender:
        await sender.send(message)


async def everything(on: Pentimento, like: Message) -> list[Message]:
    """Every message of the same topic and key."""
    reading = messages(load_settings(on.data), like.topic, from_beginning=True, until_end=True)
    return [message async for message in reading if message.key == like.key]


async def first_letter(on: Pentimento, of: Message) -> str:
    """The id of the dead letter that a message becomes."""
    reading = messages(load_settings(on.data), topology.DEAD_LETTERS, from_beginning=True)
    async with aclosing(reading):
        async for message in reading:
            if message.value is not None and (letter := decode(message, DeadLetter)).source_key == of.key:
                return letter.key()
    raise AssertionError("the topic of dead letters ended")
