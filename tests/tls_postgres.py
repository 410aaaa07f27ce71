"""A PostgreSQL that speaks TLS, for tests: Debian's, since the embedded one is built without it.

`TlsPostgres` answers on loopback with a certificate that a test gives it, lets `USER` in by `PASSWORD` and `CERTIFIED`
by a certificate of that name alone, and nobody without TLS. It has no pgvector, so it is good for connections alone.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from pathlib import Path

import psycopg

from services.core.errors import Unavailable
from services.local.component import Component, Launch, run_leashed
from services.local.files import write_private
from services.local.ports import LOOPBACK, free_port
from services.local.reach import let_through, unprivileged_user

USER, PASSWORD, CERTIFIED = "pentimento", secrets.token_hex(16), "certified"
RULES = f"hostssl all {CERTIFIED} {LOOPBACK}/32 cert\nhostssl all {USER} {LOOPBACK}/32 scram-sha-256\n"


def programs() -> Path | None:
    """The newest installed PostgreSQL of Debian."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(found, key=lambda path: int(path.parent.name), default=None)


class TlsPostgres(Component):
    """Shows `certificate` (a file with its key), and believes clients whose certificates `ca` signed."""

    def __init__(self, folder: Path, *, certificate: Path, ca: Path) -> None:
        super().__init__("tls-postgres", folder / "log")
        self.port = free_port()
        self._cluster, self._certificate, self._ca = folder / "cluster", certificate, ca
        self._user = unprivileged_user()

    def launch(self) -> Launch:
        """A cluster made for this one run."""
        found = programs()
        assert found is not None
        self._cluster.mkdir(mode=0o700, parents=True)
        password = self._cluster.with_name("password")
        write_private(password, PASSWORD)
        self._give_away(self._cluster)
        self._give_away(password)  # initdb opens it anew
        user = None
        if self._user is not None:
            let_through(self._cluster.parent, self._user.pw_uid, self._user.pw_gid)
            user = f"{self._user.pw_uid}:{self._user.pw_gid}"
        command = (
            str(found / "initdb"), "-D", str(self._cluster), "--auth=scram-sha-256", "--encoding=UTF8",
            "--locale=C.UTF-8", f"--username={USER}", f"--pwfile={password}", "--no-sync",
        )  # fmt: skip
        run_leashed(self.name, command, 120, user=user, cwd=self._cluster)
        (self._cluster / "pg_hba.conf").write_text(RULES)
        for name, source in (("server.pem", self._certificate), ("ca.pem", self._ca)):
            shutil.copy(source, self._cluster / name)
            (self._cluster / name).chmod(0o600)
            self._give_away(self._cluster / name)
        settings = (
            f"--listen_addresses={LOOPBACK}", "--unix_socket_directories=", "--fsync=off", "--ssl=on",
            "--ssl_cert_file=server.pem", "--ssl_key_file=server.pem", "--ssl_ca_file=ca.pem",
        )  # fmt: skip
        server = (str(found / "postgres"), "-D", str(self._cluster), "-p", str(self.port), *settings)
        return Launch(server, cwd=self._cluster, user=user, stop_signal=signal.SIGINT)

    def probe(self) -> None:
        """A query is answered, whoever the server is."""
        try:
            with psycopg.connect(self.dsn(sslmode="require"), connect_timeout=2) as connection:
                connection.execute("select 1")
        except psycopg.OperationalError as error:
            raise Unavailable(self.name, str(error)) from error

    def settle(self) -> None:
        """Make the role that has no password."""
        with psycopg.connect(self.dsn(sslmode="require")) as connection:
            connection.execute(f"create role {CERTIFIED} login")

    def dsn(self, *, user: str = USER, host: str = LOOPBACK, **parameters: object) -> str:
        """As a URL, with libpq's parameters. `host` is the name that the certificate is held against."""
        words = "&".join(f"{name}={value}" for name, value in {"hostaddr": LOOPBACK, **parameters}.items())
        password = f":{PASSWORD}" if user == USER else ""
        return f"postgresql://{user}{password}@{host}:{self.port}/postgres?{words}"

    def _give_away(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)
