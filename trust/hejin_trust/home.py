"""An admitted member's folder, opened: membership, database and both ledgers together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import grpc
from sqlalchemy import Engine

from hejin_trust.channels import dial, fetch_charter
from hejin_trust.charter import Charter, CharterSource
from hejin_trust.clock import Clock
from hejin_trust.database import open_database, reading, writing
from hejin_trust.errors import HejinError
from hejin_trust.keys import SigningKey
from hejin_trust.log import Log
from hejin_trust.membership import Membership
from hejin_trust.origins import internal_origin, release_origin
from hejin_trust.process import repeat

_CHARTER_SECONDS: Final = 30.0
_CALL_SECONDS: Final = 10.0


class RegulatorMissingError(HejinError):
    """The settings name no regulator to mirror and cosign the logs."""

    code = "no-regulator"


@dataclass(frozen=True)
class MemberHome:
    """What every role's home has; roles add what is their own."""

    path: Path
    membership: Membership
    database: Engine
    release_log: Log
    internal_log: Log
    clock: Clock

    @property
    def member_id(self) -> str:
        """This member's id in the charter."""
        return self.membership.member

    @property
    def identity(self) -> SigningKey:
        """The key that signs this member's documents."""
        return self.membership.identity

    @property
    def charters(self) -> CharterSource:
        """The pinned charter file."""
        return self.membership.charters

    @property
    def charter(self) -> Charter:
        """The charter in force."""
        return self.membership.charter

    def now(self) -> datetime:
        """Return the time that documents are dated by."""
        return self.clock()

    def dial(self, member: str, address: str) -> grpc.Channel:
        """Return a channel to an admitted member at HOST:PORT; raises NotAMemberError."""
        own = self.membership
        return dial(
            address,
            self.charter.admitted(member),
            self.charters,
            own.tls_key_pem,
            own.certificate_pem,
        )

    def verify_logs(self) -> None:
        """Rebuild both ledgers and compare them with what is stored; raises LogError."""
        with reading(self.database) as connection:
            self.release_log.verify(connection)
            self.internal_log.verify(connection)


@contextmanager
def open_member(
    path: Path,
    membership: Membership,
    database: str,
    migrations: Path,
    clock: Clock,
    *,
    found: bool = True,
) -> Iterator[MemberHome]:
    """Open a member's database and ledgers, and close them at the end.

    database    file name within `path`
    migrations  the role's Alembic folder
    found       begin ledgers that are empty with their `genesis` entry; a recovery puts back the
                ones that were lost instead
    raises      StorageError
    """
    consortium, me = membership.charter.consortium, membership.member
    engine = open_database(path / database, migrations)
    try:
        origins = (
            release_origin(consortium, membership.role, me),
            internal_origin(consortium, membership.role, me),
        )
        release, internal = (Log(origin, me, membership.log_key, clock) for origin in origins)
        home = MemberHome(path, membership, engine, release, internal, clock)
        if found:
            _found_logs(home)
        yield home
    finally:
        engine.dispose()


def keep_charter(home: MemberHome, address: str, stop: threading.Event) -> None:
    """Ask the regulator at HOST:PORT for a newer charter every 30 s, until `stop`."""
    regulator = home.charter.regulator.id
    with home.dial(regulator, address) as channel:

        def refresh() -> None:
            home.charters.update(fetch_charter(channel, regulator, _CALL_SECONDS))

        repeat(refresh, _CHARTER_SECONDS, stop)


def _found_logs(home: MemberHome) -> None:
    logs = (home.release_log, home.internal_log)
    with reading(home.database) as connection:
        if all(log.size(connection) for log in logs):
            return
    body = home.membership.genesis()
    with writing(home.database) as connection:
        for log in logs:
            if not log.size(connection):
                log.append(connection, "genesis", body)
                log.checkpoint(connection)
