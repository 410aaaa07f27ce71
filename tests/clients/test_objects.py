"""The object store's contract: one suite on a folder and on a real S3 server, then what only one of them can do."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from services.clients.objects import Objects
from services.core.errors import Rejected, Unavailable
from services.core.intake.keys import image_key
from tests.s3_server import S3Server

KEY = image_key(sha256(b"a picture").hexdigest())


def on_s3(server: S3Server, *, bucket: str | None = None, secret: str | None = None, timeout_s: float = 10) -> Objects:
    return Objects(
        f"s3://{bucket or server.bucket}/some/prefix",
        endpoint=server.endpoint,
        region=server.region,
        access_key_id=server.access_key_id,
        secret_access_key=secret or server.secret_access_key,
        allow_http=True,
        timeout_s=timeout_s,
    )


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Objects]:
    on_folder = request.param == "folder"
    store = Objects(f"file://{tmp_path}/objects") if on_folder else on_s3(request.getfixturevalue("s3"))
    yield store
    store.close()


async def test_what_was_put_is_got_byte_for_byte(objects: Objects) -> None:
    data = bytes(range(256)) * 5000
    await objects.put(KEY, data, "image/png")
    assert await objects.get(KEY, max_bytes=len(data)) == data


async def test_putting_the_same_again_changes_nothing(objects: Objects) -> None:
    await asyncio.gather(*(objects.put(KEY, b"the same", "image/png") for _ in range(20)))
    assert await objects.get(KEY, max_bytes=100) == b"the same"


async def test_what_was_removed_is_gone_and_removing_it_again_is_no_error(objects: Objects) -> None:
    await objects.put(KEY, b"a picture", "image/png")
    await objects.delete(KEY)
    assert not await objects.exists(KEY)
    await objects.delete(KEY)
    await objects.delete("no such/key")


async def test_an_empty_object_is_an_object(objects: Objects) -> None:
    await objects.put("empty", b"", "application/octet-stream")
    assert await objects.get("empty", max_bytes=1) == b""


async def test_keys_may_have_spaces_accents_and_percent_signs(objects: Objects) -> None:
    for key in ("my photo (1).jpg", "Größe/ß.png", "100%25/a+b=c.png", "%2e%2e/x"):
        await objects.put(key, key.encode(), "image/png")
        assert await objects.get(key, max_bytes=1000) == key.encode()


async def test_existence_follows_from_putting(objects: Objects) -> None:
    assert not await objects.exists("not/yet")
    await objects.put("not/yet", b"now", "image/png")
    assert await objects.exists("not/yet")
    assert not await objects.exists("not")


async def test_a_missing_object_is_the_uploads_fault(objects: Objects) -> None:
    with pytest.raises(Rejected) as caught:
        await objects.get("images/nothing-here", max_bytes=100)
    assert caught.value.code == "object_missing"
    assert "images/nothing-here" in str(caught.value)


async def test_an_object_above_the_limit_is_refused(objects: Objects) -> None:
    await objects.put("large", b"x" * 1001, "image/png")
    with pytest.raises(Rejected) as caught:
        await objects.get("large", max_bytes=1000)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    "key",
    ["", "/", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "a/./b", "a/", "a\\..\\b", "a\0b", "a\nb", "k" * 1025],
)
async def test_a_key_that_climbs_or_is_malformed_names_no_object(objects: Objects, key: str) -> None:
    with pytest.raises(Rejected) as caught:
        await objects.get(key, max_bytes=100)
    assert caught.value.code == "object_missing"
    with pytest.raises(Rejected):
        await objects.put(key, b"evil", "image/png")
    assert not await objects.exists(key)


# -- only a folder ------------------------------------------------------------------------------------------------


async def test_a_folder_that_vanished_is_an_outage_and_no_fault_of_the_upload(tmp_path: Path) -> None:
    objects = Objects(f"file://{tmp_path}/objects")
    (tmp_path / "objects").rmdir()
    with pytest.raises(Unavailable, match="there is no object store"):
        await objects.get("anything", max_bytes=100)
    objects.close()


async def test_a_folder_that_cannot_be_written_is_an_outage(tmp_path: Path) -> None:
    objects = Objects(f"file://{tmp_path}/objects")
    (tmp_path / "objects" / "taken").write_bytes(b"a file where a folder should be")
    with pytest.raises(Unavailable) as caught:
        await objects.put("taken/by", b"x", "image/png")
    assert caught.value.dependency == "objects"
    objects.close()


def test_a_short_process_ends_in_order_after_its_last_call(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\nfrom services.clients.objects import Objects\n"
        "asyncio.run(Objects(sys.argv[1]).put('a', b'b', 'image/png'))\n"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-c", program, f"file://{tmp_path}/objects"], check=True, timeout=60)
    assert (tmp_path / "objects" / "a").read_bytes() == b"b"


# -- only S3 ------------------------------------------------------------------------------------------------------


async def test_a_missing_bucket_is_an_outage_and_no_fault_of_the_upload(s3: S3Server) -> None:
    objects = on_s3(s3, bucket="no-such-bucket")
    with pytest.raises(Unavailable, match="there is no object store"):
        await objects.get("anything", max_bytes=100)
    objects.close()


async def test_refused_credentials_are_an_outage_and_are_not_printed(s3: S3Server) -> None:
    if not s3.checks_keys:
        pytest.skip("moto's server lets every key in")
    objects = on_s3(s3, secret="wrong-but-secret")
    with pytest.raises(Unavailable) as caught:
        await objects.put(KEY, b"x", "image/png")
    assert "wrong-but-secret" not in str(caught.value)
    objects.close()


async def test_a_server_that_is_away_is_an_outage(s3: S3Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    objects = on_s3(S3Server(f"http://127.0.0.1:{port}", "a", "b"), timeout_s=5)
    with pytest.raises(Unavailable):
        await objects.exists(KEY)
    objects.close()


async def test_a_server_that_never_answers_costs_the_deadline_and_no_more() -> None:
    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    objects = on_s3(S3Server(f"http://127.0.0.1:{port}", "a", "b"), timeout_s=0.3)
    with pytest.raises(Unavailable):
        await objects.get(KEY, max_bytes=100)
    objects.close()
    server.close()


def test_an_unknown_kind_of_store_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="file://"):
        Objects("ftp://somewhere/else")
