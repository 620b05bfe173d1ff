"""V1 and V7: the charters of a consortium from the first to the one in force, and their members."""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, NoReturn

from hejin_regulator.notebook import Notebook
from hejin_trust import canonical
from hejin_trust.canonical import time_from, time_text
from hejin_trust.charter import MOST_BYTES, Charter, CharterError, Member, check_same_house
from hejin_trust.errors import HejinError
from hejin_trust.export import CHARTER_FILE, CHARTERS_FOLDER, read_part
from hejin_trust.members import Role
from hejin_trust.text import Text

CLOCKS: Final = timedelta(seconds=120)
"""So far may a member's clock be off the regulator's: behind it, a charter is in force early."""
LEARNING: Final = timedelta(seconds=130)
"""A member may act so long under the charter of before: its clock may be ahead of the regulator's,
and it hears of a new charter with its next cosignature."""


_SERIAL: Final = re.compile(r"[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class _Stay:
    """When a member was admitted, RFC 3339; until "" is until now."""

    since: str
    until: str


@dataclass(slots=True)
class History:
    """All charters of an export, oldest first; `charter` is the one in force.

    by_digest  every charter that is the regulator's own
    """

    charter: Charter
    charters: tuple[Charter, ...]
    by_digest: dict[str, Charter] = field(init=False)
    _members: dict[tuple[str, str], Member] = field(init=False)
    _issued: list[str] = field(init=False)
    _stays: dict[tuple[str, str], _Stay] = field(init=False)
    _around: dict[str, tuple[str, str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Work out who was admitted when."""
        self.by_digest = {charter.digest: charter for charter in self.charters}
        self._issued = [charter.issued for charter in self.charters]
        self._members = {(member.id, member.role): member for member in self.charter.members}
        self._stays = {}
        for charter in self.charters:
            for member in charter.members:
                key = (member.id, member.role)
                stay = self._stays.get(key)
                if stay is None:
                    until = "" if member.admitted else charter.issued
                    self._stays[key] = _Stay(charter.issued, until)
                elif not member.admitted and not stay.until:
                    self._stays[key] = _Stay(stay.since, charter.issued)

    def member(self, member: str, role: Role) -> Member | None:
        """Return a member as the charter in force names it, revoked or not."""
        return self._members.get((member, role))

    def admitted(self, member: str, role: Role, time: str) -> bool:
        """Return whether a member was admitted at a time, as far as others could know then."""
        early, late = self._known_around(time)
        stay = self._stays.get((member, role))
        if stay is None or late < stay.since:
            return False
        return not stay.until or early < stay.until

    def acted_before_its_end(self, member: str, role: Role, time: str) -> bool:
        """Return whether a member was revoked, and a time lies before it can have known of that."""
        stay = self._stays.get((member, role))
        early, _ = self._known_around(time)
        return stay is not None and stay.until != "" and early < stay.until

    def in_force(self, time: str) -> tuple[Charter, ...]:
        """Return the charters that a member could go by at a time, newest first; mostly one."""
        early, late = self._known_around(time)
        first = max(bisect_right(self._issued, early) - 1, 0)
        return tuple(reversed(self.charters[first : bisect_right(self._issued, late)]))

    def for_budget(self, time: str) -> Charter | None:
        """Return the newest charter known at a time in whose budget period the time falls."""
        _, late = self._known_around(time)
        for charter in reversed(self.charters[: bisect_right(self._issued, late)]):
            if charter.period_from <= time < charter.period_to:
                return charter
        return None

    def caps(self, charter: Charter, time: str) -> tuple[Charter, ...]:
        """Return the charters whose caps an account of `charter`'s period may go by at a time."""
        known = self.in_force(time)
        return (charter, *(one for one in known if one.period_from == charter.period_from))

    def between(self, start: str, end: str) -> Iterator[tuple[str, Charter]]:
        """Yield the moments from `start` to `end` at which a charter was new, with that charter."""
        first = bisect_right(self._issued, start)
        if first:
            yield start, self.charters[first - 1]
        for charter in self.charters[first:]:
            if charter.issued >= end:
                return
            yield charter.issued, charter

    def _known_around(self, time: str) -> tuple[str, str]:
        """Return the regulator's times of the oldest and the newest charter to be known then."""
        known = self._around.get(time)
        if known is None:
            if len(self._around) > 4096:
                self._around.clear()
            moment = time_from(time)
            known = (time_text(moment - LEARNING), time_text(moment + CLOCKS))
            self._around[time] = known
        return known


def read_history(folder: Path, pinned: bytes | None, notes: Notebook) -> tuple[History, bytes]:
    """Return the charters of an export, and the key that they hold under.

    pinned   the regulator's Ed25519 key, 32 bytes; None takes the one that the charter names
    raises   CharterError, ExportError if there is no charter to verify against

    Every serial from 1 on must be there, and each charter must follow from the one before it;
    what does not hold is a finding of V1.
    """
    data = read_part(folder / CHARTER_FILE, MOST_BYTES)
    key = pinned
    if key is None:
        key = _named_key(data)
        notes.warn(
            "No regulator key was given: the charter's own was taken. Compare it with the "
            f"one you know: {key.hex()}",
            f"未提供监管方公钥，采用了章程自带的公钥，请与您所知的核对：{key.hex()}",
        )
    try:
        charter = Charter.parse(data, key)
    except HejinError as reason:
        raise CharterError(
            f"the charter of the export does not hold under the regulator's key: {reason.text.en}",
            f"导出中的章程在监管方公钥下不成立：{reason.text.zh}",
        ) from reason
    earlier = list(_earlier(folder, charter, key, notes))
    return History(charter, (*earlier, charter)), key


def _earlier(folder: Path, last: Charter, key: bytes, notes: Notebook) -> Iterator[Charter]:
    """Yield the charters before `last`, by serial, as far as they are there and hold."""
    there = [serial for serial in charter_serials(folder) if serial <= last.serial]
    before: Charter | None = None
    for serial in there:
        name = f"{CHARTERS_FOLDER}/{serial}.json"
        try:
            charter = Charter.parse(read_part(folder / name, MOST_BYTES), key)
            if charter.serial != serial or (serial == last.serial and charter != last):
                _broken("it is not the charter of that number", "其序号与文件名不符")
            if before is not None:
                check_successor(before, charter)
        except HejinError as reason:
            _note(notes, last, name, reason.text)
            continue
        before = charter
        if serial < last.serial:
            yield charter
    if len(there) < last.serial:
        first = next(place for place, serial in enumerate([*there, 0], 1) if place != serial)
        _note(
            notes,
            last,
            f"{CHARTERS_FOLDER}/{first}.json",
            Text(
                f"{last.serial - len(there)} of the {last.serial} charters are missing, the first "
                f"is number {first}: add them to {CHARTERS_FOLDER}/",
                f"{last.serial} 份章程中缺少 {last.serial - len(there)} 份，首个为第 {first} 号："
                f"请放入 {CHARTERS_FOLDER}/",
            ),
        )


def charter_serials(folder: Path) -> list[int]:
    """Return the numbers of the earlier charters that an export holds, ascending."""
    names = (path.stem for path in (folder / CHARTERS_FOLDER).glob("*.json"))
    return sorted(int(name) for name in names if _SERIAL.fullmatch(name))


def _note(notes: Notebook, charter: Charter, name: str, reason: Text) -> None:
    notes.add_text("V1", charter.regulator.id, None, reason, evidence=(name,))


def check_successor(before: Charter, after: Charter) -> None:
    """Raise CharterError unless a charter may follow the other one.

    Same consortium and nonce, no period cut short; the regulator's keys, and members with their
    roles and keys, stay for good, and so does a revocation.
    """
    check_same_house(before, after)
    if after.issued < before.issued:
        _broken("it was issued before the one before it", "其签发时间早于前一份章程")
    regulators = (_identity(before.regulator), _identity(after.regulator))
    if regulators[0] != regulators[1]:
        _broken("it names the regulator with other keys", "其中监管方的密钥不同")
    members = {member.id: member for member in after.members}
    for member in before.members:
        later = members.get(member.id)
        if later is None or _identity(later) != _identity(member):
            _broken(
                f"{member.id} is missing in it, or has another role or keys",
                f"其中缺少 {member.id}，或其角色、密钥不同",
            )
        if later.admitted and not member.admitted:
            _broken(f"{member.id} was revoked before", f"{member.id} 此前已被撤销")


def _identity(member: Member) -> tuple[str, str, bytes, bytes]:
    return member.id, member.role, member.identity_key, member.log_key


def _broken(en: str, zh: str) -> NoReturn:
    raise CharterError(
        f"the charter does not follow from the one before it: {en}",
        f"章程与前一份不相承接：{zh}",
    )


def _named_key(data: bytes) -> bytes:
    """Return the regulator key that a charter names, before anything in it is verified."""
    try:
        outer = canonical.decode(data, max_bytes=MOST_BYTES)
        payload = base64.b64decode(canonical.text(outer, "payload", longest=MOST_BYTES))
        body = canonical.decode(payload, max_bytes=MOST_BYTES)
        return canonical.hexbytes(canonical.child(body, "regulator"), "identity_key", 32)
    except (HejinError, binascii.Error) as reason:
        raise CharterError(
            "the charter of the export is malformed; ask the regulator for the valid charter",
            "导出中的章程格式有误；请向监管方索取有效章程",
        ) from reason
