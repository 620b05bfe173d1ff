"""A bank's folder: settings, membership, database, logs and models, opened together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from hejin_coordinator.config import FILE, CoordinatorSettings
from hejin_trust.charter import Charter, CharterSource
from hejin_trust.clock import Clock, now
from hejin_trust.database import open_database, reading, writing
from hejin_trust.keys import SigningKey
from hejin_trust.log import Log, internal_origin, release_origin
from hejin_trust.membership import Membership, load
from hejin_trust.settings import read_settings

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class CoordinatorHome:
    """An admitted bank, opened. Close it by leaving `open_home`."""

    path: Path
    settings: CoordinatorSettings
    membership: Membership
    database: Engine
    release_log: Log
    internal_log: Log
    clock: Clock

    @property
    def member_id(self) -> str:
        """This bank's id in the charter."""
        return self.membership.member

    @property
    def identity(self) -> SigningKey:
        """The key that signs this bank's documents."""
        return self.membership.identity

    @property
    def charters(self) -> CharterSource:
        """The pinned charter file."""
        return self.membership.charters

    @property
    def charter(self) -> Charter:
        """The charter in force."""
        return self.membership.charter

    @property
    def models_folder(self) -> Path:
        """Where the model registry lies."""
        return self.path / "models"

    def now(self) -> datetime:
        """Return the time that documents are dated by."""
        return self.clock()


@contextmanager
def open_home(path: Path, clock: Clock = now) -> Iterator[CoordinatorHome]:
    """Open the bank in `path`; raises SettingsError, MembershipError, KeyFileError, StorageError.

    The first opening after `join` founds both logs with their `genesis` entry.
    """
    settings = read_settings(path / FILE, CoordinatorSettings)
    membership = load(path, settings.member, "bank", bytes.fromhex(settings.regulator_key))
    consortium = membership.charter.consortium
    database = open_database(path / "coordinator.db", MIGRATIONS)
    try:
        home = CoordinatorHome(
            path=path,
            settings=settings,
            membership=membership,
            database=database,
            release_log=Log(
                release_origin(consortium, "bank", settings.member),
                settings.member,
                membership.log_key,
                clock,
            ),
            internal_log=Log(
                internal_origin(consortium, "bank", settings.member),
                settings.member,
                membership.log_key,
                clock,
            ),
            clock=clock,
        )
        with reading(database) as connection:
            founded = home.internal_log.size(connection) > 0
        if not founded:
            _found_logs(home)
        yield home
    finally:
        database.dispose()


def _found_logs(home: CoordinatorHome) -> None:
    body = home.membership.genesis()
    with writing(home.database) as connection:
        for log in (home.release_log, home.internal_log):
            if not log.size(connection):
                log.append(connection, "genesis", body)
                log.checkpoint(connection)
