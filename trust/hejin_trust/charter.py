"""The charter: who is a member with which keys, and the limits that bind everyone."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final, NoReturn, Protocol

from hejin_trust import canonical, envelope
from hejin_trust.canonical import DocumentError
from hejin_trust.envelope import EnvelopeError
from hejin_trust.errors import HejinError
from hejin_trust.files import replace_file
from hejin_trust.keys import KeyFileError, SigningKey
from hejin_trust.members import Member, Role, Status, check_id

__all__ = [
    "Charter",
    "CharterError",
    "CharterSource",
    "Charters",
    "Member",
    "NotAMemberError",
    "Role",
    "Status",
]

LARGEST_DELTA: Final = Fraction(1, 10**6)
"""PRIVATE_SUM section 3: delta <= min(1e-6, n^-1.1); plans check the second bound."""

MOST_BYTES: Final = 4 << 20
"""Longest charter envelope that is read: about 4,000 members."""

_CHARTER_FIELDS: Final = (
    "v",
    "consortium",
    "serial",
    "issued",
    "regulator",
    "ca_certificate",
    "members",
    "rho_cap",
    "rho_alone_cap",
    "delta",
    "period_from",
    "period_to",
    "minimum_nodes",
    "minimum_enterprises",
    "r",
    "nonce",
)


class CharterError(HejinError):
    """A charter is not the regulator's, not valid, or older than one already seen."""

    code = "bad-charter"


class NotAMemberError(HejinError):
    """Somebody is not a member, has another role, or was revoked."""

    code = "not-a-member"


def _refuse(en: str, zh: str) -> NoReturn:
    raise CharterError(
        f"the charter is refused: {en}; ask the regulator for the valid charter",
        f"章程被拒绝：{zh}；请向监管方索取有效章程",
    )


@dataclass(frozen=True, slots=True)
class Charter:
    """The regulator's word on members and limits; a value that exists is valid.

    serial               grows by one with every change; a lower one is never accepted again
    rho_cap              most zCDP cost a node's account may reach in the period
    rho_alone_cap        the same if all other nodes colluded with the bank; >= rho_cap
    delta                probability at which epsilon is reported, 0 < delta <= 1e-6
    period_from, _to     budget period, RFC 3339 UTC; the end is outside
    minimum_nodes        fewest nodes of a plan
    minimum_enterprises  fewest enterprises of a node, by its declared band
    r                    most nodes one enterprise may be in (PRIVATE_SUM section 1)
    nonce                32 random bytes fixed at founding; hold-out splits depend on it
    digest               SHA-256 of the canonical body, lower-case hex
    """

    consortium: str
    serial: int
    issued: str
    regulator: Member
    ca_certificate: str
    members: tuple[Member, ...]
    rho_cap: Fraction
    rho_alone_cap: Fraction
    delta: Fraction
    period_from: str
    period_to: str
    minimum_nodes: int
    minimum_enterprises: int
    r: int
    nonce: bytes
    digest: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Check every rule; raises CharterError or DocumentError."""
        self._check_members()
        self._check_limits()
        digest = hashlib.sha256(canonical.encode(self.body())).hexdigest()
        object.__setattr__(self, "digest", digest)

    def _check_members(self) -> None:
        check_id(self.consortium)
        if self.regulator.role != "regulator" or not self.regulator.admitted:
            _refuse("its issuer is not a regulator", "签发者不是监管方")
        if any(member.role == "regulator" for member in self.members):
            _refuse("it names a second regulator", "列有第二个监管方")
        everyone = (self.regulator, *self.members)
        _unique("id", (member.id for member in everyone))
        _unique("certificate", (member.certificate_fingerprint for member in everyone))
        _unique("key", (k for member in everyone for k in (member.identity_key, member.log_key)))

    def _check_limits(self) -> None:
        for moment in (self.issued, self.period_from, self.period_to):
            canonical.time_from(moment)
        if self.period_from >= self.period_to:
            _refuse("the budget period ends before it begins", "预算期的结束早于开始")
        if not 0 < self.delta <= LARGEST_DELTA:
            _refuse("delta is not in (0, 1e-6]", "delta 不在 (0, 1e-6] 之内")
        if not 0 < self.rho_cap <= self.rho_alone_cap:
            _refuse("the caps are not 0 < rho_cap <= rho_alone_cap", "预算上限无效")
        if min(self.serial, self.minimum_nodes, self.minimum_enterprises, self.r) < 1:
            _refuse(
                "serial, minimum sizes and r are not at least 1", "序号、最小规模与 r 应至少为 1"
            )
        if len(self.nonce) != 32:
            _refuse("the nonce has not 32 bytes", "随机数不是 32 字节")

    def current(self) -> Charter:
        """Return itself: a charter is the simplest source of charters."""
        return self

    def member(self, member_id: str, role: Role | None = None) -> Member:
        """Return the member, revoked or not: old documents stay verifiable.

        raises   NotAMemberError if it is unknown or has another role than `role`
        """
        for member in (self.regulator, *self.members):
            if member.id == member_id and role in (None, member.role):
                return member
        raise NotAMemberError(
            f"there is no {role or 'member'} of that name in charter {self.serial}; "
            "ask the regulator to admit it",
            f"第 {self.serial} 号章程中没有该{role or '成员'}；请监管方先予准入",
        )

    def admitted(self, member_id: str, role: Role | None = None) -> Member:
        """Return the member if it may take part now; raises NotAMemberError."""
        member = self.member(member_id, role)
        if not member.admitted:
            raise NotAMemberError(
                f"{member.id} was revoked (charter {self.serial}); ask the regulator",
                f"{member.id} 的准入已被撤销（第 {self.serial} 号章程）；请咨询监管方",
            )
        return member

    def by_fingerprint(self, fingerprint: str) -> Member | None:
        """Return the member with this certificate, revoked or not, or None."""
        for member in (self.regulator, *self.members):
            if member.certificate_fingerprint == fingerprint:
                return member
        return None

    def body(self) -> dict[str, object]:
        """Return the canonical document body."""
        return {
            "v": 1,
            "consortium": self.consortium,
            "serial": self.serial,
            "issued": self.issued,
            "regulator": self.regulator.body(),
            "ca_certificate": self.ca_certificate,
            "members": [member.body() for member in self.members],
            "rho_cap": canonical.fraction_body(self.rho_cap),
            "rho_alone_cap": canonical.fraction_body(self.rho_alone_cap),
            "delta": canonical.fraction_body(self.delta),
            "period_from": self.period_from,
            "period_to": self.period_to,
            "minimum_nodes": self.minimum_nodes,
            "minimum_enterprises": self.minimum_enterprises,
            "r": self.r,
            "nonce": self.nonce.hex(),
        }

    def seal(self, key: SigningKey) -> bytes:
        """Return the charter signed by the regulator's identity key."""
        return envelope.seal(envelope.CHARTER, self.body(), key, self.regulator.id)

    @classmethod
    def parse(cls, data: bytes, regulator_key: bytes) -> Charter:
        """Return the charter in an envelope signed by the pinned regulator key.

        raises   CharterError: wrong signer, wrong form, or a rule is broken
        """
        try:
            opened = envelope.open_envelope(
                data, envelope.CHARTER, regulator_key, max_bytes=MOST_BYTES
            )
            charter = cls._from_body(opened.body)
        except (EnvelopeError, DocumentError, KeyFileError) as reason:
            raise CharterError(reason.text.en, reason.text.zh) from reason
        signed_by = (charter.regulator.id, charter.regulator.identity_key)
        if signed_by != (opened.signer, regulator_key):
            _refuse("it names another regulator than its signer", "所列监管方与签名者不符")
        return charter

    @classmethod
    def _from_body(cls, body: Mapping[str, object]) -> Charter:
        canonical.closed(body, *_CHARTER_FIELDS)
        canonical.integer(body, "v", 1, 1)
        return cls(
            consortium=canonical.text(body, "consortium"),
            serial=canonical.integer(body, "serial", 1),
            issued=canonical.time_field(body, "issued"),
            regulator=Member.from_body(canonical.child(body, "regulator")),
            ca_certificate=canonical.text(body, "ca_certificate"),
            members=tuple(Member.from_body(item) for item in canonical.objects(body, "members")),
            rho_cap=canonical.fraction(body, "rho_cap"),
            rho_alone_cap=canonical.fraction(body, "rho_alone_cap"),
            delta=canonical.fraction(body, "delta"),
            period_from=canonical.time_field(body, "period_from"),
            period_to=canonical.time_field(body, "period_to"),
            minimum_nodes=canonical.integer(body, "minimum_nodes", 1),
            minimum_enterprises=canonical.integer(body, "minimum_enterprises", 1),
            r=canonical.integer(body, "r", 1),
            nonce=canonical.hexbytes(body, "nonce", 32),
        )


def _unique(what: str, values: Iterable[object]) -> None:
    seen = list(values)
    if len(set(seen)) != len(seen):
        _refuse(f"two entries share one {what}", f"有两个条目的 {what} 相同")


class Charters(Protocol):
    """Whoever can say what the charter is now: a `CharterSource`, or a fixed `Charter`."""

    def current(self) -> Charter:
        """Return the charter in force; raises CharterError."""
        ...


class CharterSource:
    """The charter file of this process: re-read when it changes, never taken back.

    Safe to use from several threads. What was accepted once stays the floor: a file with a
    lower serial, or another charter under the same serial, is refused until it is repaired.
    """

    def __init__(self, path: Path, regulator_key: bytes) -> None:
        self.path, self.regulator_key = path, regulator_key
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._charter: Charter | None = None
        self._signed = b""

    def current(self) -> Charter:
        """Return the charter in force; raises CharterError if the file has no acceptable one."""
        with self._lock:
            return self._read()

    def signed(self) -> bytes:
        """Return the envelope of the charter in force as the regulator signed it."""
        with self._lock:
            self._read()
            return self._signed

    def update(self, data: bytes) -> Charter:
        """Store a newer charter envelope durably and return the charter in force after it.

        An older charter than the stored one is ignored: the network may delay answers.
        raises   CharterError if `data` is not the pinned regulator's valid charter, or another
                 charter under the stored serial; FileError if it cannot be stored
        """
        offered = Charter.parse(data, self.regulator_key)
        with self._lock:
            known = self._read() if self.path.exists() else None
            if known is not None:
                check_same_house(known, offered)
                if offered.serial <= known.serial:
                    return known
            replace_file(self.path, data)
            return self._read()

    def _read(self) -> Charter:
        try:
            stat = self.path.stat()
            state = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if self._charter is not None and state == self._seen:
                return self._charter
            data = self.path.read_bytes()
        except OSError as reason:
            raise CharterError(
                f"the charter at {self.path} cannot be read ({reason.strerror}); "
                "run join again with the admission file",
                f"无法读取 {self.path} 处的章程（{reason.strerror}）；请用准入文件重新执行 join",
            ) from reason
        charter = Charter.parse(data, self.regulator_key)
        if self._charter is not None:
            check_same_house(self._charter, charter)
            if charter.serial < self._charter.serial:
                _refuse(
                    f"serial {charter.serial} is lower than {self._charter.serial}, already seen",
                    f"序号 {charter.serial} 低于已见过的 {self._charter.serial}",
                )
        self._charter, self._seen, self._signed = charter, state, data
        return charter


def check_same_house(known: Charter, offered: Charter) -> None:
    """Raise CharterError for another consortium or nonce, a cut period, or one serial twice.

    Of two charters in any order; the one with the higher serial is the newer.
    """
    if known.consortium != offered.consortium:
        _refuse("it is of another consortium", "属于另一联盟")
    if known.serial == offered.serial and known.digest != offered.digest:
        _refuse(
            f"there are two charters with serial {known.serial}",
            f"存在两份序号为 {known.serial} 的章程",
        )
    if known.nonce != offered.nonce:
        # Another split in the middle of a plan would let an enterprise be in both parts, while
        # the plan is charged for the dearer one only.
        _refuse("its nonce is not the one fixed at founding", "随机数与创立时所定不同")
    older, newer = sorted((known, offered), key=lambda charter: charter.serial)
    same = newer.period_from == older.period_from
    if (same and newer.period_to < older.period_to) or (
        not same and newer.period_from < older.period_to
    ):
        # A period that begins anew while one runs would give every account its budget twice.
        _refuse(
            f"its budget period begins or ends before the one until {older.period_to} is over",
            f"其预算期在现行预算期（至 {older.period_to}）结束之前开始或结束",
        )
