"""Signed documents: DSSE v1 envelopes around canonical JSON, with one Ed25519 signature."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hejin_trust import canonical
from hejin_trust.canonical import DocumentError
from hejin_trust.errors import HejinError
from hejin_trust.keys import SignatureError, SigningKey, verify

CHARTER: Final = "hejin/charter/v1"
ENROLMENT: Final = "hejin/enrolment/v1"
ADMISSION: Final = "hejin/admission/v1"
PLAN: Final = "hejin/plan/v1"
APPROVAL: Final = "hejin/approval/v1"
REFUSAL: Final = "hejin/refusal/v1"
RECEIPT: Final = "hejin/receipt/v1"
NOT_RECEIVED: Final = "hejin/not-received/v1"
SUM_KEYAD: Final = "hejin/secure-sum/v1/keyad"
SUM_QUERY: Final = "hejin/secure-sum/v1/query"
SUM_MASKED: Final = "hejin/secure-sum/v1/masked"
SUM_SURVIVORS: Final = "hejin/secure-sum/v1/survivors"
SUM_VOTE: Final = "hejin/secure-sum/v1/vote"
SUM_RESULT: Final = "hejin/secure-sum/v1/result"
MODEL: Final = "hejin/model/v1"
CERTIFICATE_STATUS: Final = "hejin/certificate-status/v1"
RECOVERY: Final = "hejin/recovery/v1"
AUTHORISATION: Final = "hejin/authorisation/v1"
LABELS_QUESTION: Final = "hejin/labels/v1/question"
LABELS_ANSWER: Final = "hejin/labels/v1/answer"
VIEW: Final = "hejin/view/v1"

PAYLOAD_TYPES: Final = frozenset(
    {
        CHARTER,
        ENROLMENT,
        ADMISSION,
        PLAN,
        APPROVAL,
        REFUSAL,
        RECEIPT,
        NOT_RECEIVED,
        SUM_KEYAD,
        SUM_QUERY,
        SUM_MASKED,
        SUM_SURVIVORS,
        SUM_VOTE,
        SUM_RESULT,
        MODEL,
        CERTIFICATE_STATUS,
        RECOVERY,
        AUTHORISATION,
        LABELS_QUESTION,
        LABELS_ANSWER,
        VIEW,
    }
)
"""Every type that is ever signed; a signature under one type never fits another."""

MOST_BYTES: Final = 1 << 20


class EnvelopeError(HejinError):
    """A signed document is malformed, of another type, by another signer, or not signed."""

    code = "bad-envelope"


@dataclass(frozen=True, slots=True)
class Opened:
    """A document whose signature was verified.

    signer    member id that the envelope names and whose key verified
    payload   the exact bytes that were signed
    body      the same, parsed (strings, integers, booleans, lists, objects)
    digest    SHA-256 of `payload`, lower-case hex: what other documents refer to
    """

    signer: str
    payload: bytes
    body: dict[str, object]
    digest: str


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE v1's pre-authentication encoding, the bytes that are signed.

    PAE(type, body) = "DSSEv1" SP len(type) SP type SP len(body) SP body
    (https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md)
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, body: Mapping[str, object], key: SigningKey, signer: str) -> bytes:
    """Return `body` as a signed envelope.

    payload_type   one of PAYLOAD_TYPES
    signer         member id, stored as DSSE's keyid
    raises         DocumentError if `body` has no canonical form
    """
    if payload_type not in PAYLOAD_TYPES:
        raise ValueError(f"unknown payload type {payload_type!r}")
    payload = canonical.encode(body)
    signature = key.sign(pae(payload_type, payload))
    return canonical.encode(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"keyid": signer, "sig": base64.b64encode(signature).decode()}],
        }
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    payload_type: str
    payload: bytes
    signer: str
    signature: bytes


def _bytes(body: Mapping[str, object], key: str, longest: int) -> bytes:
    """Return the bytes of a base64 field, in the one spelling that base64 has for them."""
    value = canonical.text(body, key, longest=longest)
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as reason:
        raise _malformed() from reason
    if base64.b64encode(data).decode() != value:
        raise _malformed()
    return data


def _malformed() -> EnvelopeError:
    return EnvelopeError(
        "the signed document is malformed; ask its sender for it again",
        "签名文件格式有误；请发送方重新提供",
    )


def _parts(data: bytes, max_bytes: int) -> _Parts:
    try:
        outer = canonical.decode(data, max_bytes=max_bytes)
        canonical.closed(outer, "payload", "payloadType", "signatures")
        signatures = canonical.objects(outer, "signatures")
        if len(signatures) != 1:
            raise EnvelopeError(
                f"the document carries {len(signatures)} signatures, exactly one is accepted; "
                "ask its sender for it again",
                f"文件带有 {len(signatures)} 个签名，只接受一个；请发送方重新提供",
            )
        canonical.closed(signatures[0], "keyid", "sig")
        return _Parts(
            canonical.text(outer, "payloadType", longest=64),
            _bytes(outer, "payload", max_bytes),
            canonical.text(signatures[0], "keyid", longest=64),
            _bytes(signatures[0], "sig", 88),
        )
    except DocumentError as reason:
        raise EnvelopeError(reason.text.en, reason.text.zh) from reason


def peek_signer(data: bytes, *, max_bytes: int = MOST_BYTES) -> str:
    """Return the member id an envelope claims, not yet verified; raises EnvelopeError."""
    return _parts(data, max_bytes).signer


def open_envelope(
    data: bytes,
    payload_type: str,
    public_key: bytes,
    signer: str | None = None,
    *,
    max_bytes: int = MOST_BYTES,
) -> Opened:
    """Return the document in `data` after verifying it; its payload is not parsed before.

    payload_type   the only type that is accepted
    public_key     the signer's Ed25519 key, 32 bytes, from the charter
    signer         the only signer id that is accepted; None: any id that signs with this key
    max_bytes      longest accepted envelope
    raises         EnvelopeError
    """
    parts = _parts(data, max_bytes)
    _check_type(parts, payload_type)
    if signer is not None and parts.signer != signer:
        raise EnvelopeError(
            f"the document is not signed by {signer}; ask {signer} for it",
            f"文件不是由 {signer} 签名；请向 {signer} 索取",
        )
    return _verified(parts, public_key, max_bytes)


def open_self_signed(
    data: bytes, payload_type: str, key_field: str, *, max_bytes: int = MOST_BYTES
) -> Opened:
    """Return a document signed by the key that its own field `key_field` names.

    This proves possession of the key and nothing about its holder; raises EnvelopeError.
    """
    parts = _parts(data, max_bytes)
    _check_type(parts, payload_type)
    try:
        claimed = canonical.decode(parts.payload, max_bytes=max_bytes)
        public_key = canonical.hexbytes(claimed, key_field, 32)
    except DocumentError as reason:
        raise EnvelopeError(reason.text.en, reason.text.zh) from reason
    return _verified(parts, public_key, max_bytes)


def _check_type(parts: _Parts, payload_type: str) -> None:
    if parts.payload_type != payload_type:
        raise EnvelopeError(
            f"the document is not of type {payload_type}; send the right document",
            f"文件类型不是 {payload_type}；请发送正确的文件",
        )


def _verified(parts: _Parts, public_key: bytes, max_bytes: int) -> Opened:
    try:
        verify(public_key, pae(parts.payload_type, parts.payload), parts.signature)
        body = canonical.decode(parts.payload, max_bytes=max_bytes)
    except (SignatureError, DocumentError) as reason:
        raise EnvelopeError(reason.text.en, reason.text.zh) from reason
    return Opened(parts.signer, parts.payload, body, hashlib.sha256(parts.payload).hexdigest())
