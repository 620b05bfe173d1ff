"""The certificate status list: from when until when each certificate counted, and why it ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, cast, get_args

from hejin_trust import canonical
from hejin_trust.canonical import time_text
from hejin_trust.charter import MOST_BYTES as MOST_CHARTER_BYTES
from hejin_trust.charter import Charter, CharterError
from hejin_trust.envelope import CERTIFICATE_STATUS, open_envelope, seal
from hejin_trust.files import FileError
from hejin_trust.keys import SigningKey
from hejin_trust.members import Role, role_from

MOST_BYTES: Final = 16 << 20
"""Longest list that is read: some 40,000 certificates."""

Ended = Literal["", "superseded", "revoked"]


@dataclass(frozen=True, slots=True)
class IssuedCharter:
    """One charter of the row that the list was made from."""

    serial: int
    digest: str
    issued: str


@dataclass(frozen=True, slots=True)
class CertificateStanding:
    """One certificate's time; RFC 3339.

    since    `issued` of the first charter that names it
    until    `issued` of the first later charter that does not, or that revokes the member; else ""
    reason   why it ended; "" while it counts
    """

    fingerprint: str
    member: str
    role: Role
    since: str
    until: str
    reason: Ended

    def body(self) -> dict[str, object]:
        """Return the canonical document body."""
        return {
            "fingerprint": self.fingerprint,
            "member": self.member,
            "role": self.role,
            "from": self.since,
            "to": self.until,
            "reason": self.reason,
        }

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> CertificateStanding:
        """Return what `body` wrote; raises DocumentError."""
        canonical.closed(body, "fingerprint", "member", "role", "from", "to", "reason")
        reason = canonical.text(body, "reason", longest=16)
        until = canonical.text(body, "to", longest=20)
        if reason not in get_args(Ended) or (reason == "") != (until == ""):
            canonical.refuse("a certificate ends for no reason known", "证书终止原因无效")
        if until:
            canonical.time_from(until)
        canonical.hexbytes(body, "fingerprint", 32)
        return cls(
            fingerprint=canonical.text(body, "fingerprint"),
            member=canonical.text(body, "member", longest=63),
            role=role_from(canonical.text(body, "role", longest=16)),
            since=canonical.time_field(body, "from"),
            until=until,
            reason=cast("Ended", reason),
        )


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """The whole list as of `issued`: every charter so far, every certificate that one named."""

    consortium: str
    issued: str
    charters: tuple[IssuedCharter, ...]
    certificates: tuple[CertificateStanding, ...]

    def seal(self, key: SigningKey, regulator: str) -> bytes:
        """Return the list signed by the regulator's identity key."""
        body = {
            "v": 1,
            "consortium": self.consortium,
            "issued": self.issued,
            "charters": [
                {"serial": item.serial, "digest": item.digest, "issued": item.issued}
                for item in self.charters
            ],
            "certificates": [item.body() for item in self.certificates],
        }
        return seal(CERTIFICATE_STATUS, body, key, regulator)

    @classmethod
    def parse(cls, data: bytes, regulator_key: bytes) -> CertificateStatus:
        """Return the list in an envelope that the regulator signed.

        raises   EnvelopeError, DocumentError
        """
        opened = open_envelope(data, CERTIFICATE_STATUS, regulator_key, max_bytes=MOST_BYTES)
        body = opened.body
        canonical.closed(body, "v", "consortium", "issued", "charters", "certificates")
        canonical.integer(body, "v", 1, 1)
        return cls(
            consortium=canonical.text(body, "consortium", longest=63),
            issued=canonical.time_field(body, "issued"),
            charters=tuple(_charter_from(item) for item in canonical.objects(body, "charters")),
            certificates=tuple(
                CertificateStanding.from_body(item)
                for item in canonical.objects(body, "certificates")
            ),
        )


def _charter_from(body: Mapping[str, object]) -> IssuedCharter:
    canonical.closed(body, "serial", "digest", "issued")
    canonical.hexbytes(body, "digest", 32)
    return IssuedCharter(
        serial=canonical.integer(body, "serial", 1),
        digest=canonical.text(body, "digest"),
        issued=canonical.time_field(body, "issued"),
    )


def standings(charters: Iterable[Charter]) -> tuple[CertificateStanding, ...]:
    """Return every certificate that the charters name, in the order of first mention.

    charters   all of them, by serial, from the first to the one in force
    """
    found: dict[str, CertificateStanding] = {}
    for charter in charters:
        named = {
            member.certificate_fingerprint: member
            for member in (charter.regulator, *charter.members)
        }
        for fingerprint, member in named.items():
            found.setdefault(
                fingerprint,
                CertificateStanding(fingerprint, member.id, member.role, charter.issued, "", ""),
            )
        for fingerprint, standing in found.items():
            holder = named.get(fingerprint)
            if standing.reason == "" and (holder is None or not holder.admitted):
                reason: Ended = "superseded" if holder is None else "revoked"
                found[fingerprint] = replace(standing, until=charter.issued, reason=reason)
    return tuple(found.values())


def status_of(charters: Iterable[Charter], at: datetime) -> CertificateStatus:
    """Return the list as of `at`; `charters` as for `standings`, at least one."""
    consortium = ""
    row: list[IssuedCharter] = []

    def noted() -> Iterator[Charter]:
        nonlocal consortium
        for charter in charters:
            consortium = charter.consortium
            row.append(IssuedCharter(charter.serial, charter.digest, charter.issued))
            yield charter

    certificates = standings(noted())
    return CertificateStatus(consortium, time_text(at), tuple(row), certificates)


def read_charters(home: Path, current: Charter, regulator_key: bytes) -> Iterator[Charter]:
    """Yield every charter of the regulator's folder, from serial 1 to `current`.

    raises   FileError, CharterError: one is missing, altered, or not the one of its number
    """
    for serial in range(1, current.serial + 1):
        path = home / "charters" / f"{serial}.json"
        try:
            with path.open("rb") as file:
                data = file.read(MOST_CHARTER_BYTES + 1)
        except OSError as reason:
            raise FileError(
                f"{path} cannot be read ({reason.strerror}); put it back from a backup",
                f"无法读取 {path}（{reason.strerror}）；请从备份还原",
            ) from reason
        charter = Charter.parse(data, regulator_key)
        if charter.serial != serial or (serial == current.serial and charter != current):
            raise CharterError(
                f"{path} is not charter number {serial}; put it back from a backup",
                f"{path} 不是第 {serial} 号章程；请从备份还原",
            )
        yield charter
