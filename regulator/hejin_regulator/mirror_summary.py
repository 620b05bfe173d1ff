"""What the mirror holds of every member, for the regulator's operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from hejin_regulator.mirror import LogMirror, Refused
from hejin_trust.database import reading
from hejin_trust.members import Member
from hejin_trust.stored_log import TABLES


@dataclass(frozen=True, slots=True)
class HeldLog:
    """One log: its entries, the newest time it was first cosigned at ("" if never), its types."""

    origin: str
    size: int
    cosigned: str
    types: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class HeldMember:
    """A node or bank, its logs (release, internal), and what it was refused."""

    member: Member
    logs: tuple[HeldLog, ...]
    refusals: tuple[Refused, ...]

    def body(self) -> dict[str, object]:
        """Return this for `--json`; the notes of refusals are what the member cannot deny."""
        return {
            "member": self.member.id,
            "role": self.member.role,
            "status": self.member.status,
            "logs": [
                {
                    "origin": log.origin,
                    "size": log.size,
                    "cosigned": log.cosigned,
                    "types": dict(log.types),
                }
                for log in self.logs
            ],
            "refusals": [
                {
                    "code": refused.code,
                    "count": refused.count,
                    "first": refused.first,
                    "newest": refused.newest,
                    "note": refused.note,
                }
                for refused in self.refusals
            ],
        }


def summary(mirror: LogMirror) -> tuple[HeldMember, ...]:
    """Return what is held of each member of the charter, revoked ones too; reads every row."""
    refused = mirror.refusals()
    return tuple(
        HeldMember(
            member,
            _held(mirror, member),
            tuple(item for item in refused if item.member == member.id),
        )
        for member in mirror.charters.current().members
    )


def _held(mirror: LogMirror, member: Member) -> tuple[HeldLog, ...]:
    held: list[HeldLog] = []
    entry = TABLES.entry
    with reading(mirror.engine) as connection:
        for log in mirror.logs_of(member):
            rows = connection.execute(
                select(entry.c.type, func.count())
                .where(entry.c.origin == log.origin)
                .group_by(entry.c.type)
                .order_by(entry.c.type)
            )
            types = {str(kind): int(count) for kind, count in rows}
            newest = log.newest_cosigned(connection)
            time = "" if newest is None else newest.time
            held.append(HeldLog(log.origin, sum(types.values()), time, types))
    return tuple(held)
