"""Logs of members as plain lists, and what their members would send of them to the mirror."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hejin_regulator.authority import Office
from hejin_regulator.mirror import LogMirror, open_mirror
from hejin_trust import membership
from hejin_trust.checkpoint import sign_checkpoint
from hejin_trust.clock import now
from hejin_trust.cosignature import Cosigned, open_cosigned, witness_name
from hejin_trust.entries import Body, build
from hejin_trust.keys import SigningKey
from hejin_trust.members import Role
from hejin_trust.merkle import consistency_path, leaf_hash, root_of
from hejin_trust.mirroring import LogUpdate
from hejin_trust.origins import internal_origin, release_origin
from hejin_trust.text import Text

START = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)


@dataclass
class Time:
    """A clock that tests set."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Book:
    """One log, obviously: a list of leaves."""

    origin: str
    member: str
    key: SigningKey
    leaves: list[bytes] = field(default_factory=list)

    def append(
        self,
        kind: str = "void",
        body: Body | None = None,
        at: datetime = START,
        by: str | None = None,
        seq: int | None = None,
    ) -> bytes:
        """Append an entry; `by` and `seq` falsify it."""
        seq = len(self.leaves) if seq is None else seq
        salt = hashlib.sha256(f"{self.origin} {len(self.leaves)}".encode()).digest()[:16]
        body = {"reservation": seq, "reason": "test"} if body is None else body
        entry = build(kind, seq, at, self.member if by is None else by, body, salt)
        self.leaves.append(entry.raw)
        return entry.raw

    def fill(self, count: int) -> Book:
        for _ in range(count):
            self.append()
        return self

    def hashes(self, size: int | None = None) -> list[bytes]:
        return [leaf_hash(raw) for raw in self.leaves[:size]]

    def root(self, size: int | None = None) -> bytes:
        return root_of(self.hashes(size))

    def note(self, size: int | None = None) -> str:
        size = len(self.leaves) if size is None else size
        return sign_checkpoint(self.origin, size, self.root(size), self.key)

    def update(self, old: int, new: int | None = None) -> LogUpdate:
        """Return what an honest member sends to bring the mirror from `old` to `new` entries."""
        new = len(self.leaves) if new is None else new
        return LogUpdate(
            origin=self.origin,
            old_size=old,
            entries=tuple(self.leaves[old:new]),
            proof=tuple(consistency_path(self.hashes(new), old)),
            checkpoint=self.note(new),
        )


@dataclass
class Watched:
    """A consortium with members that were admitted, and its mirror.

    release, internal   each member's logs
    """

    office: Office
    mirror: LogMirror
    time: Time
    release: dict[str, Book]
    internal: dict[str, Book]

    def opened(self, update: LogUpdate, line: str) -> Cosigned:
        """Return the cosigned head, checked as any member does."""
        charter = self.office.charter
        member = next(m for m in charter.members if f"/{m.id}" in update.origin)
        return open_cosigned(
            update.checkpoint + line,
            update.origin,
            member.log_key,
            witness_name(charter.consortium, charter.regulator.id),
            charter.regulator.log_key,
        )

    def add(self, member: str, *updates: LogUpdate) -> list[Cosigned]:
        lines = self.mirror.door(member).add(updates)
        return [self.opened(update, line) for update, line in zip(updates, lines, strict=True)]


def admit(office: Office, folder: Path, members: Sequence[tuple[str, Role]]) -> None:
    """Let members with homes in `folder` be admitted and join."""
    requests = [
        membership.found(
            folder / name,
            member=name,
            role=role,
            name=Text(name, "成员"),
            size_band=(100, 5000) if role == "node" else None,
        )
        for name, role in members
    ]
    for item in office.admit(requests, folder / "out", now()):
        membership.join(
            folder / item.member.id,
            item.member.id,
            office.identity.public,
            item.file.read_bytes(),
        )


def books(office: Office, folder: Path, members: Sequence[str]) -> Iterator[tuple[Book, Book]]:
    """Yield each member's release and internal log, empty, with its real key."""
    charter = office.charter
    for name in members:
        role = charter.member(name).role
        key = membership.load(folder / name, name, role, office.identity.public).log_key
        origins = (
            release_origin(charter.consortium, role, name),
            internal_origin(charter.consortium, role, name),
        )
        release, internal = (Book(origin, name, key) for origin in origins)
        yield release, internal


MEMBERS: tuple[tuple[str, Role], ...] = (("node-a", "node"), ("node-b", "node"), ("bank-a", "bank"))


@contextmanager
def watched(office: Office, folder: Path) -> Iterator[Watched]:
    """Admit two nodes and a bank, and open the mirror."""
    admit(office, folder, MEMBERS)
    names = [name for name, _ in MEMBERS]
    found = list(books(office, folder, names))
    time = Time()
    with open_mirror(office, time) as mirror:
        yield Watched(
            office,
            mirror,
            time,
            {name: release for name, (release, _) in zip(names, found, strict=True)},
            {name: internal for name, (_, internal) in zip(names, found, strict=True)},
        )
