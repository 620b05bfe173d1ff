"""Certificates: what the authority issues, and which ones are refused."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hejin_trust.certificates import (
    CertificateError,
    check_certificate,
    check_issued,
    fingerprint,
    make_request,
    new_authority,
    requested_key,
    server_name,
)
from hejin_trust.keys import load_tls_key, new_tls_key


def test_a_certificate_names_member_consortium_and_role(house: Any) -> None:
    certificate = x509.load_pem_x509_certificate(house.people["bank-a"].certificate.encode())
    subject = {part.oid: part.value for part in certificate.subject}
    assert subject == {
        NameOID.COMMON_NAME: "bank-a",
        NameOID.ORGANIZATION_NAME: "hebei",
        NameOID.ORGANIZATIONAL_UNIT_NAME: "bank",
    }
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [server_name("bank-a", "hebei")]
    assert server_name("bank-a", "hebei") == "bank-a.hebei.hejin"


@pytest.mark.parametrize(
    ("member", "serves"), [("bank-a", True), ("regulator", True), ("node-a", False)]
)
def test_only_banks_and_the_regulator_may_serve(house: Any, member: str, serves: bool) -> None:
    certificate = x509.load_pem_x509_certificate(house.people[member].certificate.encode())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.CLIENT_AUTH in usage
    assert (ExtendedKeyUsageOID.SERVER_AUTH in usage) is serves


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command here")
def test_openssl_accepts_the_chain_and_computes_the_same_fingerprint(
    house: Any, tmp_path: Path
) -> None:
    person = house.people["bank-a"]
    (tmp_path / "ca.pem").write_text(house.authority)
    (tmp_path / "bank.pem").write_text(person.certificate)
    run = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver"]
    run += ["-verify_hostname", "bank-a.hebei.hejin", "-CAfile", "ca.pem", "bank.pem"]
    found = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.stdout == "bank.pem: OK\n", found.stderr
    run = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", "bank.pem"]
    shown = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert shown.split("=")[1].strip().replace(":", "").lower() == fingerprint(person.certificate)


def test_validity_is_a_year_from_five_minutes_ago(house: Any) -> None:
    pem = house.people["node-a"].certificate
    for valid in (timedelta(minutes=-5), timedelta(0), timedelta(days=364, hours=23)):
        check_certificate(pem, house.now + valid)
    with pytest.raises(CertificateError, match="expired"):
        check_certificate(pem, house.now + timedelta(days=365))
    with pytest.raises(CertificateError, match="clock"):
        check_certificate(pem, house.now - timedelta(minutes=6))


def test_what_is_no_p256_certificate_is_refused(house: Any) -> None:
    with pytest.raises(CertificateError, match="PEM"):
        fingerprint("nothing")
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bank-a")])
    built = x509.CertificateBuilder(name, name, key.public_key(), 1)
    built = built.not_valid_before(house.now).not_valid_after(house.now + timedelta(days=1))
    pem = built.sign(key, None).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(CertificateError, match="P-256"):
        check_certificate(pem, house.now)


def test_a_certificate_of_another_authority_or_key_is_refused(house: Any) -> None:
    person = house.people["node-a"]
    check_issued(person.certificate, house.authority, person.tls_key)
    stranger = new_authority("hebei", new_tls_key(), house.now)
    with pytest.raises(CertificateError, match="authority"):
        check_issued(person.certificate, stranger, person.tls_key)
    with pytest.raises(CertificateError, match="another TLS key"):
        check_issued(person.certificate, house.authority, new_tls_key())


def test_a_request_proves_its_p256_key() -> None:
    key = new_tls_key()
    assert requested_key(make_request("node-a", key)) == load_tls_key(key).public_key()


def _request(key: Any, algorithm: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node-a")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm)
    return request.public_bytes(serialization.Encoding.DER)


def _pem(der: bytes) -> str:
    return x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM).decode()


def test_a_request_without_proof_or_of_another_kind_is_refused() -> None:
    p384 = _request(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256())
    edwards = _request(ed25519.Ed25519PrivateKey.generate(), None)
    honest = _request(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    forged = honest.replace(b"node-a", b"node-b")
    for pem in ("nothing", _pem(p384), _pem(edwards), _pem(forged)):
        with pytest.raises(CertificateError, match="request"):
            requested_key(pem)
