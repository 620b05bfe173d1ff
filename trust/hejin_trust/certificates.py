"""TLS certificates of a consortium: the regulator's authority and what it issues."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final, TypeGuard

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hejin_trust.canonical import time_text
from hejin_trust.errors import HejinError
from hejin_trust.keys import load_tls_key
from hejin_trust.members import Role

AUTHORITY_LIFETIME: Final = timedelta(days=3652)
MEMBER_LIFETIME: Final = timedelta(days=365)
BACKDATED: Final = timedelta(minutes=5)
"""Members' clocks may run this much behind the regulator's."""


class CertificateError(HejinError):
    """A certificate is malformed, outside its validity, or not the expected one."""

    code = "bad-certificate"


def server_name(member_id: str, consortium: str) -> str:
    """Return the DNS name in the member's certificate; gRPC checks it, no resolver does."""
    return f"{member_id}.{consortium}.hejin"


def new_authority(consortium: str, key_pem: bytes, at: datetime) -> str:
    """Return the self-signed P-256 certificate of a consortium's authority, as PEM.

    key_pem   its private key
    at        start of the ten years for which it is valid
    """
    key = load_tls_key(key_pem)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "Hejin consortium authority"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, consortium),
        ]
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - BACKDATED)
        .not_valid_after(at + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pem(built.sign(key, hashes.SHA256()))


def issue(
    authority_pem: str,
    authority_key_pem: bytes,
    public_key: ec.EllipticCurvePublicKey,
    *,
    member_id: str,
    role: Role,
    consortium: str,
    at: datetime,
    lifetime: timedelta = MEMBER_LIFETIME,
) -> str:
    """Return a member's TLS certificate as PEM.

    public_key   the member's P-256 key, proven by its certificate request
    role         nodes only dial out: their certificate cannot serve (RFC 5280 section 4.2.1.12)
    at           now; validity starts five minutes earlier, for clocks that are behind
    """
    authority = _load(authority_pem.encode())
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if role != "node":
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, member_id),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, consortium),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
        ]
    )
    key = load_tls_key(authority_key_pem)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - BACKDATED)
        .not_valid_after(at + lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(server_name(member_id, consortium))]),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
    )
    return _pem(built.sign(key, hashes.SHA256()))


def make_request(member_id: str, key_pem: bytes) -> str:
    """Return a PKCS #10 request (RFC 2986) as PEM: it proves possession of the TLS key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, member_id)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = request.sign(load_tls_key(key_pem), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def requested_key(request_pem: str) -> ec.EllipticCurvePublicKey:
    """Return the P-256 key that signed a certificate request; raises CertificateError."""
    try:
        request = x509.load_pem_x509_csr(request_pem.encode())
        key = request.public_key()
        if request.is_signature_valid and _is_p256(key):
            return key
    except (ValueError, TypeError) as reason:
        raise _bad_request() from reason
    raise _bad_request()


def fingerprint(pem: str | bytes) -> str:
    """Return the SHA-256 of a certificate's DER form, lower-case hex; raises CertificateError."""
    certificate = _load(pem.encode() if isinstance(pem, str) else pem)
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def check_certificate(pem: str | bytes, at: datetime) -> None:
    """Raise CertificateError unless the certificate is P-256 and valid at the moment `at`."""
    certificate = _load(pem.encode() if isinstance(pem, str) else pem)
    if not _is_p256(certificate.public_key()):
        raise CertificateError(
            "the certificate's key is not P-256; ask the regulator for a new certificate",
            "证书的密钥不是 P-256；请向监管方申请新证书",
        )
    if at < certificate.not_valid_before_utc:
        raise CertificateError(
            f"the certificate is valid only from {time_text(certificate.not_valid_before_utc)}; "
            "check this machine's clock",
            f"证书自 {time_text(certificate.not_valid_before_utc)} 起才有效；请检查本机时钟",
        )
    if at >= certificate.not_valid_after_utc:
        raise CertificateError(
            f"the certificate expired at {time_text(certificate.not_valid_after_utc)}; "
            "ask the regulator for a new one",
            f"证书已于 {time_text(certificate.not_valid_after_utc)} 过期；请向监管方申请新证书",
        )


def expires(pem: str | bytes) -> datetime:
    """Return the first moment at which the certificate is no longer valid, UTC."""
    return _load(pem.encode() if isinstance(pem, str) else pem).not_valid_after_utc


def check_issued(pem: str, authority_pem: str, key_pem: bytes) -> None:
    """Raise CertificateError unless the authority issued the certificate for this private key."""
    certificate, authority = _load(pem.encode()), _load(authority_pem.encode())
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError) as reason:
        raise CertificateError(
            "the certificate was not issued by the consortium's authority; "
            "ask the regulator for the admission file",
            "证书不是由联盟的证书机构签发；请向监管方索取准入文件",
        ) from reason
    if certificate.public_key() != load_tls_key(key_pem).public_key():
        raise CertificateError(
            "the certificate belongs to another TLS key; "
            "use the admission file made for this request",
            "证书对应另一个 TLS 密钥；请使用与本申请对应的准入文件",
        )


def _is_p256(key: object) -> TypeGuard[ec.EllipticCurvePublicKey]:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def _load(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as reason:
        raise CertificateError(
            "this is not a PEM certificate; ask the regulator for the admission file",
            "这不是 PEM 证书；请向监管方索取准入文件",
        ) from reason


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _bad_request() -> CertificateError:
    return CertificateError(
        "the certificate request is not a valid P-256 request; run init at the member again",
        "证书申请不是有效的 P-256 申请；请在成员处重新执行 init",
    )
