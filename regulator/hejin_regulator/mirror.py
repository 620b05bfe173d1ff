"""The regulator's mirror: every entry of every member, stored before its checkpoint is cosigned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, case, select
from sqlalchemy.dialects.sqlite import insert

from hejin_regulator.authority import Office
from hejin_regulator.fair_use import FairUse
from hejin_regulator.mirror_labels import LabelBook
from hejin_regulator.mirror_tables import refusal
from hejin_regulator.shared_writes import SharedWrites
from hejin_regulator.stamps import Stamps, Steady
from hejin_regulator.witness_rules import (
    Accepted,
    Held,
    UnknownLogError,
    WitnessRefusedError,
    check_message,
    check_update,
)
from hejin_trust.canonical import time_text
from hejin_trust.charter import CharterSource
from hejin_trust.clock import Clock, now
from hejin_trust.cosignature import Cosigned, cosign, witness_name
from hejin_trust.database import open_database, reading
from hejin_trust.keys import SigningKey
from hejin_trust.members import Member
from hejin_trust.mirroring import LogStanding, LogUpdate, portion
from hejin_trust.origins import internal_origin, release_origin
from hejin_trust.stored_log import StoredLog

MIGRATIONS: Final = Path(__file__).parent / "migrations"
DATABASE: Final = "mirror.db"


@dataclass(frozen=True, slots=True)
class Refused:
    """How often a member was refused with one code; times RFC 3339.

    note   the first signed note that was refused so, or "": what the member cannot deny
    """

    member: str
    code: str
    count: int
    first: str
    newest: str
    note: str


class LogMirror:
    """All members' logs; each member reaches its own through its `door`.

    Safe to use from several threads. Messages of one member are served one after the other; one
    process at a time may add (`hejin_trust.files.held`), others may read.
    """

    def __init__(
        self,
        engine: Engine,
        charters: CharterSource,
        log_key: SigningKey,
        clock: Clock,
        steady: Steady | None,
    ) -> None:
        """Use an open database of the mirror; see `open_mirror`."""
        self.engine, self.charters = engine, charters
        self._key, self._clock = log_key, clock
        self._stamps = Stamps(engine, clock, steady)
        self._fair = FairUse()
        self._writes = SharedWrites(engine)

    def door(self, member_id: str) -> Door:
        """Return an admitted member's way in; the charter is asked again at each call."""
        return Door(self, member_id)

    def logs_of(self, member: Member) -> tuple[StoredLog, ...]:
        """Return a node's or bank's release log and internal log; of the regulator, none."""
        if member.role == "regulator":
            return ()
        consortium = self.charters.current().consortium
        return tuple(
            StoredLog(origin(consortium, member.role, member.id))
            for origin in (release_origin, internal_origin)
        )

    def standing(self, member: Member) -> tuple[LogStanding, ...]:
        """Return what is held of both logs of a member."""
        with reading(self.engine) as connection:
            return tuple(_standing(connection, log) for log in self.logs_of(member))

    def add(self, member: Member, updates: Sequence[LogUpdate]) -> tuple[str, ...]:
        """Store the entries of all updates or none; return one cosignature line an update.

        raises   WitnessRefusedError (counted, with its evidence), WitnessClockError, NotNowError,
                 StorageError
        """
        with self._fair.turn(member.id):
            at = self._stamps.next()
            try:
                checked = self._checked(member, updates, at)
            except WitnessRefusedError as refused:
                self._count(member, refused)
                raise
            size = sum(len(raw) for update in updates for raw in update.entries)
            self._fair.check(member.id, size, at)
            charter = self.charters.current()
            name = witness_name(charter.consortium, charter.regulator.id)
            lines = tuple(cosign(accepted.note, name, self._key, at) for accepted, _ in checked)
            fresh = [
                (accepted, Cosigned(accepted.checkpoint, accepted.note + line, at))
                for (accepted, known), line in zip(checked, lines, strict=True)
                if not known
            ]
            if fresh:
                # Stored and synced with all that it covers before anybody sees a cosignature.
                self._store(member, fresh)
                self._fair.count(member.id, size, at)
            return lines

    def entries(self, member: Member, origin: str, start: int) -> tuple[bytes, ...]:
        """Return leaves of a member's log from `start` on, as many as one message carries."""
        logs = {log.origin: log for log in self.logs_of(member)}
        if origin not in logs:
            raise UnknownLogError(
                "the log that is asked for is not the caller's: a member gets its own back",
                "所请求的日志不属于调用方：成员只能取回自己的日志",
            )
        with reading(self.engine) as connection:
            if start >= logs[origin].size(connection):
                return ()
            return portion(logs[origin].entries(connection, start))[0]

    def refusals(self) -> tuple[Refused, ...]:
        """Return what was refused so far, by member and code."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(refusal).order_by(refusal.c.member, refusal.c.code))
            return tuple(Refused(*row) for row in rows)

    def _checked(
        self, member: Member, updates: Sequence[LogUpdate], at: datetime
    ) -> list[tuple[Accepted, bool]]:
        """Return what may be stored, and whether that size was cosigned before."""
        logs = {log.origin: log for log in self.logs_of(member)}
        check_message(updates, tuple(logs))
        checked: list[tuple[Accepted, bool]] = []
        with reading(self.engine) as connection:
            for update in updates:
                log = logs[update.origin]
                held = _held(connection, log)
                accepted = check_update(held, update, member.id, member.log_key, at)
                newest = log.newest_cosigned(connection)
                known = newest is not None and newest.size == accepted.checkpoint.size
                checked.append((accepted, known))
        return checked

    def _store(self, member: Member, fresh: Sequence[tuple[Accepted, Cosigned]]) -> None:
        """Store what was checked; raises WitnessRefusedError (counted, with its evidence)."""
        try:
            self._writes.write(partial(_store, self.logs_of(member), member.id, fresh))
        except WitnessRefusedError as refused:
            self._count(member, refused)
            raise

    def _count(self, member: Member, refused: WitnessRefusedError) -> None:
        at = time_text(self._clock())
        new = insert(refusal).values(
            member=member.id,
            code=refused.code,
            count=1,
            first=at,
            newest=at,
            note=refused.evidence,
        )
        again = new.on_conflict_do_update(
            set_={
                "count": refusal.c.count + 1,
                "newest": at,
                "note": case((refusal.c.note == "", refused.evidence), else_=refusal.c.note),
            }
        )

        def upsert(connection: Connection) -> None:
            connection.execute(again)

        self._writes.write(upsert)


class Door:
    """One member's way into the mirror, in process; satisfies `hejin_trust.mirroring.Mirror`.

    Every method raises NotAMemberError once the member is no longer admitted.
    """

    def __init__(self, mirror: LogMirror, member_id: str) -> None:
        """See `LogMirror.door`."""
        self._mirror, self._id = mirror, member_id

    def standing(self) -> tuple[LogStanding, ...]:
        """Return what is held of both of the member's logs."""
        return self._mirror.standing(self._member())

    def add(self, updates: Sequence[LogUpdate]) -> tuple[str, ...]:
        """Store and cosign; see `LogMirror.add`."""
        return self._mirror.add(self._member(), updates)

    def entries(self, origin: str, start: int) -> tuple[bytes, ...]:
        """Return leaves from `start` on; none at the end. Raises UnknownLogError."""
        return self._mirror.entries(self._member(), origin, start)

    def charter_serial(self) -> int:
        """Return the serial of the charter in force."""
        return self._mirror.charters.current().serial

    def charter(self) -> bytes:
        """Return the signed envelope of the charter in force."""
        return self._mirror.charters.signed()

    def _member(self) -> Member:
        return self._mirror.charters.current().admitted(self._id)


@contextmanager
def open_mirror(
    office: Office, clock: Clock = now, steady: Steady | None = None
) -> Iterator[LogMirror]:
    """Open the mirror in the regulator's folder; nothing of it is checked yet.

    steady   to cosign by a clock that is not set on meanwhile; see `Stamps`
    raises   StorageError, KeyFileError
    """
    key = SigningKey.load(office.home / "keys" / "log.key")
    engine = open_database(office.home / DATABASE, MIGRATIONS)
    try:
        yield LogMirror(engine, office.charters, key, clock, steady)
    finally:
        engine.dispose()


def _store(
    logs: Sequence[StoredLog],
    member: str,
    fresh: Sequence[tuple[Accepted, Cosigned]],
    connection: Connection,
) -> None:
    stored = {accepted.checkpoint.origin: (accepted, cosigned) for accepted, cosigned in fresh}
    labels, (release, internal) = LabelBook(connection, member), logs
    # The internal log first: what the release log asks of a bank rests on it.
    for log in (internal, release):
        if log.origin not in stored:
            continue
        accepted, cosigned = stored[log.origin]
        try:
            labels.take(accepted.entries, internal=log is internal)
        except WitnessRefusedError as refused:
            refused.evidence = accepted.note
            raise
        log.extend(connection, accepted.entries)
        log.keep_cosigned(connection, cosigned)


def _standing(connection: Connection, log: StoredLog) -> LogStanding:
    size = log.size(connection)
    return LogStanding(log.origin, size, log.root(connection, size) if size else b"")


def _held(connection: Connection, log: StoredLog) -> Held:
    last = log.last(connection)
    size = 0 if last is None else last.seq + 1
    tree = log.frontier(connection, size)
    return Held(
        origin=log.origin,
        size=size,
        root=tree.root(),
        time="" if last is None else last.time,
        tree=tree,
        root_at=lambda earlier: log.root(connection, earlier),
    )
