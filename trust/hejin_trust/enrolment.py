"""How a member joins: its signed request, and the regulator's answer as one file."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hejin_trust import canonical, certificates, envelope
from hejin_trust.canonical import DocumentError
from hejin_trust.charter import MOST_BYTES as CHARTER_BYTES
from hejin_trust.charter import Charter
from hejin_trust.errors import HejinError
from hejin_trust.keys import SigningKey, verify
from hejin_trust.members import Member, Role, name_from, role_from, size_band_from
from hejin_trust.text import Text

MOST_BYTES: Final = 2 * CHARTER_BYTES
"""Longest admission file: a charter envelope in base64, and a certificate."""

_LOG_PROOF: Final = b"hejin/enrolment/v1/log-key"


class EnrolmentError(HejinError):
    """An enrolment request or an admission is not acceptable."""

    code = "bad-enrolment"


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """What somebody who wants to join says about itself, with every key proven.

    request    PKCS #10 certificate request, PEM
    time       when it was made, RFC 3339 UTC
    size_band  nodes: declared public number of enterprises (at least, at most)
    address    HOST:PORT where it will listen, if it will
    """

    member: str
    role: Role
    name: Text
    identity_key: bytes
    log_key: bytes
    request: str
    time: str
    size_band: tuple[int, int] | None = None
    address: str | None = None

    def as_member(self, certificate_fingerprint: str) -> Member:
        """Return the charter entry of this request; raises DocumentError or KeyFileError."""
        return Member(
            id=self.member,
            role=self.role,
            name=self.name,
            identity_key=self.identity_key,
            log_key=self.log_key,
            certificate_fingerprint=certificate_fingerprint,
            size_band=self.size_band,
            address=self.address,
        )


def _log_proof(member: str, identity_key: bytes) -> bytes:
    """Return what the log key signs, so that nobody enrols another member's log key."""
    return _LOG_PROOF + b"\0" + member.encode() + b"\0" + identity_key


def make_request(
    *,
    member: str,
    role: Role,
    name: Text,
    identity: SigningKey,
    log: SigningKey,
    tls_key_pem: bytes,
    at: datetime,
    size_band: tuple[int, int] | None = None,
    address: str | None = None,
) -> bytes:
    """Return the enrolment envelope to hand to the regulator.

    It is checked as the regulator will check it; raises EnrolmentError.
    """
    body: dict[str, object] = {
        "v": 1,
        "member": member,
        "role": role,
        "name": name.body(),
        "identity_key": identity.public.hex(),
        "log_key": log.public.hex(),
        "log_proof": log.sign(_log_proof(member, identity.public)).hex(),
        "request": certificates.make_request(member, tls_key_pem),
        "time": canonical.time_text(at),
        "size_band": list(size_band or ()),
        "address": address or "",
    }
    data = envelope.seal(envelope.ENROLMENT, body, identity, member)
    open_request(data)
    return data


def open_request(data: bytes) -> EnrolmentRequest:
    """Return an enrolment request after checking its signatures by the keys it names itself.

    Who stands behind these keys is for the regulator to find out before admitting.
    raises   EnrolmentError
    """
    try:
        opened = envelope.open_self_signed(data, envelope.ENROLMENT, "identity_key")
        request = _request_from(opened.body)
        certificates.requested_key(request.request)
        request.as_member("00" * 32)
    except HejinError as reason:
        raise EnrolmentError(
            f"the enrolment request is refused: {reason.text.en}",
            f"入盟申请被拒绝：{reason.text.zh}",
        ) from reason
    if opened.signer != request.member or request.role == "regulator":
        raise EnrolmentError(
            "the enrolment request is refused: its signer is not the node or bank it names; "
            "run init at the member again",
            "入盟申请被拒绝：签名者不是其所称的节点或银行；请在成员处重新执行 init",
        )
    return request


def _request_from(body: Mapping[str, object]) -> EnrolmentRequest:
    canonical.closed(
        body,
        "v",
        "member",
        "role",
        "name",
        "identity_key",
        "log_key",
        "log_proof",
        "request",
        "time",
        "size_band",
        "address",
    )
    canonical.integer(body, "v", 1, 1)
    member = canonical.text(body, "member", longest=63)
    identity_key = canonical.hexbytes(body, "identity_key", 32)
    log_key = canonical.hexbytes(body, "log_key", 32)
    proof = canonical.hexbytes(body, "log_proof", 64)
    verify(log_key, _log_proof(member, identity_key), proof)
    return EnrolmentRequest(
        member=member,
        role=role_from(canonical.text(body, "role")),
        name=name_from(canonical.child(body, "name")),
        identity_key=identity_key,
        log_key=log_key,
        request=canonical.text(body, "request", longest=8192),
        time=canonical.time_field(body, "time"),
        size_band=size_band_from(canonical.items(body, "size_band")),
        address=canonical.text(body, "address", longest=261) or None,
    )


@dataclass(frozen=True, slots=True)
class Admission:
    """The regulator's answer: everything `join` needs.

    certificate        the member's TLS certificate, PEM
    charter_envelope   the signed charter as it came, for the member's CharterSource
    charter            the same, parsed
    member             the joining member's own entry
    """

    certificate: str
    charter_envelope: bytes
    charter: Charter
    member: Member


def seal_admission(
    member: str, certificate: str, charter_envelope: bytes, key: SigningKey, regulator: str
) -> bytes:
    """Return the admission file of one member, signed by the regulator."""
    body = {
        "v": 1,
        "member": member,
        "certificate": certificate,
        "charter": base64.b64encode(charter_envelope).decode(),
    }
    return envelope.seal(envelope.ADMISSION, body, key, regulator)


def open_admission(
    data: bytes,
    *,
    regulator_key: bytes,
    member: str,
    identity_key: bytes,
    log_key: bytes,
    tls_key_pem: bytes,
    at: datetime,
) -> Admission:
    """Return the admission in `data` if it is the pinned regulator's answer to this member.

    at       now: the certificate must be valid at it
    raises   EnrolmentError if signature, charter, certificate or any key is not the expected one
    """
    try:
        opened = envelope.open_envelope(
            data, envelope.ADMISSION, regulator_key, max_bytes=MOST_BYTES
        )
        canonical.closed(opened.body, "v", "member", "certificate", "charter")
        canonical.integer(opened.body, "v", 1, 1)
        certificate = canonical.text(opened.body, "certificate", longest=8192)
        charter_envelope = _base64(opened.body, "charter")
        charter = Charter.parse(charter_envelope, regulator_key)
        entry = charter.admitted(member)
        certificates.check_issued(certificate, charter.ca_certificate, tls_key_pem)
        certificates.check_certificate(certificate, at)
        named = canonical.text(opened.body, "member", longest=63)
        mine = (member, identity_key, log_key, certificates.fingerprint(certificate))
    except HejinError as reason:
        raise EnrolmentError(
            f"the admission is refused: {reason.text.en}", f"准入文件被拒绝：{reason.text.zh}"
        ) from reason
    if mine != (named, entry.identity_key, entry.log_key, entry.certificate_fingerprint):
        raise EnrolmentError(
            "the admission is refused: it answers another request; "
            "use the admission file made for this member's latest request",
            "准入文件被拒绝：它对应另一份申请；请使用与本成员最新申请对应的准入文件",
        )
    return Admission(certificate, charter_envelope, charter, entry)


def _base64(body: Mapping[str, object], key: str) -> bytes:
    value = canonical.text(body, key, longest=MOST_BYTES)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as reason:
        raise DocumentError(
            f"field {key} is not base64; ask its sender for a correct document",
            f"字段 {key} 不是 base64；请发送方重新提供",
        ) from reason
