"""A PostgreSQL server of its own on a Unix socket: started, killed, started again."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
from sqlalchemy import URL

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
BIN = _FOLDERS[-1] if _FOLDERS else None


def _user() -> str | None:
    """PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return None
    names = {one.pw_name for one in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


class Postgres:
    """A server with one database; `close` removes everything."""

    def __init__(self) -> None:
        assert BIN is not None
        # pytest's folders cannot be entered by another user.
        self.folder = Path(tempfile.mkdtemp(prefix="hejin-pg-"))
        self._user = _user()
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._call(BIN / "initdb", "-D", "data", "-A", "trust", "-U", "books", "-E", "UTF8",
                   "--locale=C.UTF-8", "-N")  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> URL:
        return URL.create(
            "postgresql+psycopg",
            username="books",
            database="postgres",
            query={"host": str(self.folder)},
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        assert BIN is not None
        self._process = subprocess.Popen(
            [BIN / "postgres", "-D", "data", "-k", self.folder, "-c", "listen_addresses=",
             "-c", "fsync=off"],
            cwd=self.folder,
            user=self._user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(600):
            try:
                self.do("SELECT 1")
            except psycopg.OperationalError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError("PostgreSQL did not start")

    def kill(self) -> None:
        """End the server and all its connections at once."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: immediate shutdown
            self._process.wait()
            self._process = None

    def do(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        with psycopg.connect(
            host=str(self.folder), user="books", dbname="postgres", autocommit=True
        ) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def close(self) -> None:
        """End the server and remove its files."""
        self.kill()
        shutil.rmtree(self.folder)

    def _call(self, *words: str | Path) -> None:
        subprocess.run(
            words, cwd=self.folder, user=self._user, check=True, stdout=subprocess.DEVNULL
        )
