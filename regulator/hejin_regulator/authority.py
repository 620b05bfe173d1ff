"""The regulator's office: founds the consortium, admits and revokes members.

keys/authority.key  keys/identity.key  keys/log.key  keys/tls.key   0600, made once
tls.pem             the regulator's own certificate
charter.json        the charter in force, signed
charters/N.json     every charter ever issued, by serial: evidence for verification
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path

from hejin_regulator.certificate_status import CertificateStatus, read_charters, status_of
from hejin_trust import certificates
from hejin_trust.canonical import time_text
from hejin_trust.charter import Charter, CharterSource
from hejin_trust.enrolment import EnrolmentRequest, open_request, seal_admission
from hejin_trust.errors import HejinError, RefusedError
from hejin_trust.export import CHARTERS_FOLDER, WITNESS_FOLDER
from hejin_trust.files import FileError, replace_file
from hejin_trust.keys import SigningKey, load_tls_key, new_tls_key, read_private, write_private
from hejin_trust.members import Member
from hejin_trust.text import Text

REQUEST_BYTES = 1 << 20
"""Longest enrolment request that is read."""


class AdmissionError(RefusedError):
    """A request cannot be admitted under the charter as it stands."""

    code = "not-admissible"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the regulator decides when it founds a consortium; units as in `Charter`."""

    consortium: str
    regulator: str
    name: Text
    rho_cap: Fraction
    rho_alone_cap: Fraction
    delta: Fraction
    period_from: datetime
    period_to: datetime
    minimum_nodes: int
    minimum_enterprises: int
    r: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """One member that was admitted, and the file to hand to it."""

    member: Member
    file: Path


def init(home: Path, terms: Terms, at: datetime) -> Charter:
    """Make keys, authority, own certificate and charter number 1 in `home`.

    raises   KeyFileError if `home` already holds keys; DocumentError or CharterError for terms
             outside their ranges, before anything is written
    """
    keys = home / "keys"
    authority_key, tls_key = new_tls_key(), new_tls_key()
    identity, log_key = SigningKey.generate(), SigningKey.generate()
    authority = certificates.new_authority(terms.consortium, authority_key, at)
    own = certificates.issue(
        authority,
        authority_key,
        load_tls_key(tls_key).public_key(),
        member_id=terms.regulator,
        role="regulator",
        consortium=terms.consortium,
        at=at,
        # It holds the authority's key anyway, so a shorter life would protect nothing.
        lifetime=certificates.AUTHORITY_LIFETIME,
    )
    charter = Charter(
        consortium=terms.consortium,
        serial=1,
        issued=time_text(at),
        regulator=Member(
            id=terms.regulator,
            role="regulator",
            name=terms.name,
            identity_key=identity.public,
            log_key=log_key.public,
            certificate_fingerprint=certificates.fingerprint(own),
        ),
        ca_certificate=authority,
        members=(),
        rho_cap=terms.rho_cap,
        rho_alone_cap=terms.rho_alone_cap,
        delta=terms.delta,
        period_from=time_text(terms.period_from),
        period_to=time_text(terms.period_to),
        minimum_nodes=terms.minimum_nodes,
        minimum_enterprises=terms.minimum_enterprises,
        r=terms.r,
        nonce=secrets.token_bytes(32),
    )
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity.save(keys / "identity.key")
    log_key.save(keys / "log.key")
    write_private(keys / "authority.key", authority_key)
    write_private(keys / "tls.key", tls_key)
    replace_file(home / "tls.pem", own.encode())
    _store(home, charter, identity)
    return charter


class Office:
    """The regulator's folder, opened with its keys; commands that change it take turns."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.identity = SigningKey.load(home / "keys" / "identity.key")
        self.charters = CharterSource(home / "charter.json", self.identity.public)

    @property
    def charter(self) -> Charter:
        """The charter in force; raises CharterError."""
        return self.charters.current()

    def tls(self) -> tuple[bytes, bytes]:
        """Return the regulator's own TLS key and certificate, both PEM."""
        return read_private(self.home / "keys" / "tls.key"), _read(self.home / "tls.pem")

    def admit(self, requests: Sequence[Path], out: Path, at: datetime) -> tuple[Admitted, ...]:
        """Admit all requests, or none: one new charter, and one admission file each in `out`.

        The charter is stored before the admission files: a crash between leaves members that
        are admitted but not told, and repeating the command tells them.
        raises   EnrolmentError, AdmissionError
        """
        asked = [open_request(_read(path, REQUEST_BYTES)) for path in requests]
        authority_key = read_private(self.home / "keys" / "authority.key")
        with self._alone():
            charter = self.charter
            issued = {r.member: _certificate(charter, authority_key, r, at) for r in asked}
            members = [r.as_member(certificates.fingerprint(issued[r.member])) for r in asked]
            after = admit_members(charter, members, at)
            _make_folder(out)
            sealed = _store(self.home, after, self.identity)
            return tuple(self._answer(member, issued[member.id], sealed, out) for member in members)

    def certificate_status(self, at: datetime) -> tuple[CertificateStatus, bytes]:
        """Return the status of every certificate ever named, and the same signed.

        raises   FileError, CharterError: an earlier charter is missing or altered
        """
        current = self.charter
        row = read_charters(self.home, current, self.identity.public)
        status = status_of(row, at)
        return status, status.seal(self.identity, current.regulator.id)

    def revoke(self, member_id: str, at: datetime) -> Charter:
        """Revoke a member's admission: from now on every call of its is refused.

        raises   NotAMemberError, AdmissionError
        """
        with self._alone():
            after = revoke_member(self.charter, member_id, at)
            _store(self.home, after, self.identity)
        return after

    def _answer(self, member: Member, certificate: str, sealed: bytes, out: Path) -> Admitted:
        path = out / f"{member.id}.admission.json"
        regulator = self.charter.regulator.id
        replace_file(path, seal_admission(member.id, certificate, sealed, self.identity, regulator))
        return Admitted(member, path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder's lock: two commands at once must not issue one serial twice."""
        handle = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def admit_members(charter: Charter, members: Sequence[Member], at: datetime) -> Charter:
    """Return the next charter, with `members` admitted.

    A member that is admitted already, with the same keys, gets its new certificate, name, size
    band and address; its keys never change, because its log is verified by them.
    raises   AdmissionError, or CharterError if keys or names clash
    """
    known = {member.id: member for member in charter.members}
    for member in members:
        _check_admissible(charter, known.get(member.id), member)
    if len({member.id for member in members}) != len(members):
        raise AdmissionError(
            "two requests are of the same member; give one request of each member",
            "有两份申请来自同一成员；每个成员只提供一份申请",
        )
    known.update((member.id, member) for member in members)
    return replace(
        charter, serial=charter.serial + 1, issued=time_text(at), members=tuple(known.values())
    )


def _check_admissible(charter: Charter, known: Member | None, asked: Member) -> None:
    if asked.id == charter.regulator.id:
        raise AdmissionError(
            f"{asked.id} is the regulator's own name; the member must choose another",
            f"{asked.id} 是监管方自己的名称；成员须另选名称",
        )
    if asked.id in (CHARTERS_FOLDER, WITNESS_FOLDER):
        raise AdmissionError(
            f"{asked.id} is the name of the regulator's own part of an export, in which each member"
            " has a folder of its name; the member must choose another",
            f"{asked.id} 是导出文件夹中监管方部分的名称，而每个成员以其名称占一个文件夹；"
            "成员须另选名称",
        )
    if asked.size_band is not None and asked.size_band[0] < charter.minimum_enterprises:
        raise AdmissionError(
            f"{asked.id} declares at least {asked.size_band[0]} enterprises, the charter asks for "
            f"{charter.minimum_enterprises}; it can join when it has more",
            f"{asked.id} 申报至少 {asked.size_band[0]} 家企业，章程要求 "
            f"{charter.minimum_enterprises} 家；企业增加后方可加入",
        )
    if known is None:
        return
    if not known.admitted:
        raise AdmissionError(
            f"{asked.id} was revoked, which is final; it may ask again under another name",
            f"{asked.id} 已被撤销，撤销不可恢复；可换名称重新申请",
        )
    before = (known.role, known.identity_key, known.log_key)
    if before != (asked.role, asked.identity_key, asked.log_key):
        raise AdmissionError(
            f"{asked.id} is admitted with another role or other keys; "
            "revoke it and let it ask under another name",
            f"{asked.id} 已以其他角色或密钥获准入；请先撤销，再由其换名称申请",
        )


def revoke_member(charter: Charter, member_id: str, at: datetime) -> Charter:
    """Return the next charter, with one member revoked; raises NotAMemberError, AdmissionError."""
    gone = charter.admitted(member_id)
    if gone.role == "regulator":
        raise AdmissionError(
            "the regulator cannot revoke itself; found a new consortium instead",
            "监管方不能撤销自己；请另建联盟",
        )
    members = tuple(replace(m, status="revoked") if m == gone else m for m in charter.members)
    return replace(charter, serial=charter.serial + 1, issued=time_text(at), members=members)


def _certificate(
    charter: Charter, authority_key: bytes, request: EnrolmentRequest, at: datetime
) -> str:
    return certificates.issue(
        charter.ca_certificate,
        authority_key,
        certificates.requested_key(request.request),
        member_id=request.member,
        role=request.role,
        consortium=charter.consortium,
        at=at,
    )


def _store(home: Path, charter: Charter, identity: SigningKey) -> bytes:
    """Sign and store a charter, its numbered copy first; return the envelope."""
    sealed = charter.seal(identity)
    history = home / "charters"
    history.mkdir(exist_ok=True)
    replace_file(history / f"{charter.serial}.json", sealed)
    replace_file(home / "charter.json", sealed)
    return sealed


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise _unreadable(path, reason) from reason


def _read(path: Path, longest: int = REQUEST_BYTES) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(longest + 1)
    except OSError as reason:
        raise _unreadable(path, reason) from reason


def _unreadable(path: Path, reason: OSError) -> HejinError:
    return FileError(
        f"{path} cannot be used ({reason.strerror}); check the path",
        f"无法使用 {path}（{reason.strerror}）；请检查路径",
    )
