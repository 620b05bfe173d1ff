"""A MariaDB server of its own on a Unix socket: started, killed, started again."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pymysql
from sqlalchemy import URL

#: Debian keeps servers where only root looks.
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
SERVER = shutil.which("mariadbd", path=_PATH)
INSTALL = shutil.which("mariadb-install-db", path=_PATH)
ABSENT = "no MariaDB: apt-get install mariadb-server-core mariadb-client-core"


class Mariadb:
    """A server with the database `erp`; `close` removes everything."""

    def __init__(self) -> None:
        # pytest's folders may be too long for a socket, and cannot be entered by another user.
        self.folder = Path(tempfile.mkdtemp(prefix="hejin-my-"))
        # MariaDB does not run as root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        assert INSTALL is not None
        subprocess.run(
            [INSTALL, "--no-defaults", f"--datadir={self.folder}/data", "--skip-test-db",
             "--auth-root-authentication-method=normal", "--skip-name-resolve"],
            cwd=self.folder,
            user=self._user,
            check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self.do("CREATE DATABASE erp CHARACTER SET utf8mb4", database=None)

    @property
    def socket(self) -> str:
        return str(self.folder / "socket")

    @property
    def url(self) -> URL:
        return self.url_of("root")

    def url_of(self, user: str, password: str | None = None) -> URL:
        """The address with which a user reaches the database."""
        return URL.create(
            "mysql+pymysql",
            username=user,
            password=password,
            database="erp",
            query={"unix_socket": self.socket},
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        assert SERVER is not None
        self._process = subprocess.Popen(
            [SERVER, "--no-defaults", f"--datadir={self.folder}/data", f"--socket={self.socket}",
             f"--pid-file={self.folder}/pid", "--skip-networking", "--skip-name-resolve",
             "--innodb-flush-log-at-trx-commit=2", "--max-allowed-packet=1G"],
            cwd=self.folder,
            user=self._user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(600):
            # PyMySQL leaves a socket open that cannot connect.
            with socket.socket(socket.AF_UNIX) as tried, suppress(OSError):
                tried.connect(self.socket)
                return
            time.sleep(0.1)
        raise AssertionError("MariaDB did not start")

    def kill(self) -> None:
        """End the server and all its connections at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def do(self, *statements: str, database: str | None = "erp") -> None:
        """Run statements on one connection, each in a transaction of its own."""
        with self._connected(database) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def ask(self, question: str) -> tuple[tuple[object, ...], ...]:
        """Return a question's rows."""
        with self._connected("erp") as connection, connection.cursor() as cursor:
            cursor.execute(question)
            return cursor.fetchall()

    def close(self) -> None:
        """End the server and remove its files."""
        self.kill()
        shutil.rmtree(self.folder)

    def _connected(self, database: str | None) -> pymysql.Connection:
        return pymysql.connect(
            unix_socket=self.socket, user="root", database=database, autocommit=True
        )
