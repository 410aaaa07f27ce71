"""The database on the wire: whom we believe to be the server, and how we say who we are. For real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.clients.database import Database
from services.core.errors import Unavailable
from services.local.postgres import Postgres
from tests.authority import Authority, authority
from tests.tls_postgres import CERTIFIED, PASSWORD, TlsPostgres, programs

HOST = "db.example.test"

needs_debian = pytest.mark.skipif(
    programs() is None, reason="no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql"
)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("postgres-tls") / "authority")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, signer: Authority) -> Iterator[TlsPostgres]:
    """One whose certificate says that it is HOST."""
    certificate, _ = signer.issued("server", host=HOST)
    started = TlsPostgres(tmp_path_factory.mktemp("server"), certificate=certificate, ca=signer.certificate)
    started.start()
    yield started
    started.stop()


async def encrypted(dsn: str) -> bool:
    """Whether the server that answers there says that it hears us through TLS. Raises Unavailable."""
    database = await Database.open(dsn, pool_size=1, timeout_s=10)
    try:
        async with database.connection() as connection:
            found = await connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
            row = await found.fetchone()
    finally:
        await database.close()
    return bool(row and row["ssl"])


async def refusal(dsn: str) -> str:
    """What is said of a server that is not believed, or that does not believe us."""
    database = await Database.open(dsn, pool_size=1, timeout_s=10)
    try:
        with pytest.raises(Unavailable) as told:
            async with database.alone(timeout_s=10):
                pytest.fail("there is a connection")
    finally:
        await database.close()
    return str(told.value)


@needs_debian
async def test_a_server_is_believed_that_has_the_right_name_and_our_authority(
    server: TlsPostgres, signer: Authority
) -> None:
    assert await encrypted(server.dsn(host=HOST, sslmode="verify-full", sslrootcert=signer.certificate))


@needs_debian
async def test_a_server_by_another_name_is_refused(server: TlsPostgres, signer: Authority) -> None:
    said = await refusal(server.dsn(host="other.example.test", sslmode="verify-full", sslrootcert=signer.certificate))
    assert f'server certificate for "{HOST}" does not match host name "other.example.test"' in said
    assert PASSWORD not in said


@needs_debian
async def test_a_server_of_another_authority_is_refused(server: TlsPostgres, tmp_path: Path) -> None:
    foreign = authority(tmp_path / "foreign").certificate
    dsn = server.dsn(host=HOST, sslmode="verify-full", sslrootcert=foreign)
    said = await refusal(dsn)
    assert "certificate verify failed" in said
    assert PASSWORD not in said
    pooled = await Database.open(dsn, pool_size=1, timeout_s=2)
    with pytest.raises(Unavailable):
        await pooled.ping()
    await pooled.close()


@needs_debian
async def test_a_server_whose_certificate_has_ended_is_refused(signer: Authority, tmp_path: Path) -> None:
    certificate, _ = signer.issued("ended", host=HOST, ended=True)
    late = TlsPostgres(tmp_path, certificate=certificate, ca=signer.certificate)
    late.start()
    try:
        said = await refusal(late.dsn(host=HOST, sslmode="verify-full", sslrootcert=signer.certificate))
    finally:
        late.stop()
    assert "certificate verify failed" in said


@pytest.mark.parametrize("mode", ["require", "verify-full"])
async def test_a_server_without_tls_is_refused(postgres: Postgres, signer: Authority, mode: str) -> None:
    said = await refusal(f"{postgres.dsn}?sslmode={mode}&sslrootcert={signer.certificate}")
    assert "server does not support SSL, but SSL was required" in said


@needs_debian
async def test_the_systems_own_authorities_are_those_that_the_environment_names(
    server: TlsPostgres, signer: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(signer.certificate))
    assert await encrypted(server.dsn(host=HOST, sslrootcert="system"))
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate verify failed" in await refusal(server.dsn(host=HOST, sslrootcert="system"))


@needs_debian
async def test_who_has_a_certificate_of_the_servers_authority_needs_no_password(
    server: TlsPostgres, signer: Authority, tmp_path: Path
) -> None:
    ours, our_key = signer.issued(CERTIFIED)
    theirs, their_key = authority(tmp_path / "strangers").issued(CERTIFIED)
    asked = {"user": CERTIFIED, "host": HOST, "sslmode": "verify-full", "sslrootcert": str(signer.certificate)}
    assert await encrypted(server.dsn(**asked, sslcert=ours, sslkey=our_key))
    assert "connection requires a valid client certificate" in await refusal(server.dsn(**asked))
    assert "unknown ca" in await refusal(server.dsn(**asked, sslcert=theirs, sslkey=their_key))


@needs_debian
async def test_a_certificate_of_another_name_does_not_let_in(server: TlsPostgres, signer: Authority) -> None:
    other, key = signer.issued("somebody-else")
    asked = {"user": CERTIFIED, "host": HOST, "sslmode": "verify-full", "sslrootcert": str(signer.certificate)}
    said = await refusal(server.dsn(**asked, sslcert=other, sslkey=key))
    assert 'certificate authentication failed for user "certified"' in said
