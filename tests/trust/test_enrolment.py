"""Enrolment: every key is proven, and an admission fits one member only."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from hejin_trust import certificates, envelope
from hejin_trust.enrolment import (
    Admission,
    EnrolmentError,
    make_request,
    open_admission,
    open_request,
    seal_admission,
)
from hejin_trust.keys import SigningKey, new_tls_key
from hejin_trust.text import Text


def _request(house: Any, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "member": "node-c",
        "role": "node",
        "name": Text("Anping wire mesh", "安平丝网"),
        "identity": SigningKey.generate(),
        "log": SigningKey.generate(),
        "tls_key_pem": new_tls_key(),
        "at": house.now,
        "size_band": (100, 5000),
        "address": None,
    }
    return make_request(**{**values, **changes})


def test_a_request_reads_back(house: Any) -> None:
    identity, log, tls_key = SigningKey.generate(), SigningKey.generate(), new_tls_key()
    request = open_request(_request(house, identity=identity, log=log, tls_key_pem=tls_key))
    assert (request.member, request.role, request.size_band) == ("node-c", "node", (100, 5000))
    assert (request.identity_key, request.log_key) == (identity.public, log.public)
    assert request.name.zh == "安平丝网"
    member = request.as_member("ab" * 32)
    assert member.admitted
    assert member.certificate_fingerprint == "ab" * 32


@pytest.mark.parametrize(
    "wrong",
    [
        {"member": "Node C"},
        {"role": "regulator", "size_band": None},
        {"role": "king"},
        {"size_band": None},
        {"size_band": (5, 4)},
        {"address": "nowhere"},
        {"name": Text("", "")},
    ],
    ids=str,
)
def test_a_request_with_impossible_details_is_not_made(house: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(EnrolmentError):
        _request(house, **wrong)


def _resealed(data: bytes, key: SigningKey, signer: str = "node-c", **changes: object) -> bytes:
    body = envelope.open_self_signed(data, envelope.ENROLMENT, "identity_key").body
    return envelope.seal(envelope.ENROLMENT, {**body, **changes}, key, signer)


def test_a_request_that_is_not_what_its_keys_signed_is_refused(house: Any) -> None:
    key = SigningKey.generate()
    good = _request(house, identity=key)
    foreign_log = SigningKey.generate().public.hex()
    edwards = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
    for bad in [
        b"",
        good[:-1],
        _resealed(good, key, signer="node-d"),
        _resealed(good, SigningKey.generate()),
        _resealed(good, key, log_key=foreign_log),
        _resealed(good, key, log_proof="00" * 64),
        _resealed(good, key, member="node-d"),
        _resealed(good, key, request=edwards),
        _resealed(good, key, extra="x"),
        _resealed(good, key, v=2),
    ]:
        with pytest.raises(EnrolmentError):
            open_request(bad)


def test_nobody_enrols_with_the_log_key_of_another(house: Any) -> None:
    victim = envelope.open_self_signed(_request(house), envelope.ENROLMENT, "identity_key").body
    thief = SigningKey.generate()
    stolen = {key: victim[key] for key in ("log_key", "log_proof")}
    with pytest.raises(EnrolmentError, match="signature"):
        open_request(_resealed(_request(house, identity=thief), thief, **stolen))


def _open(house: Any, data: bytes, name: str = "node-a", **changes: Any) -> Admission:
    person = house.people[name]
    values: dict[str, Any] = {
        "regulator_key": house.regulator.identity.public,
        "member": name,
        "identity_key": person.identity.public,
        "log_key": person.log.public,
        "tls_key_pem": person.tls_key,
        "at": house.now,
    }
    return open_admission(data, **{**values, **changes})


def _admission(house: Any, name: str = "node-a", **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "member": name,
        "certificate": house.people[name].certificate,
        "charter_envelope": house.sealed(),
        "key": house.regulator.identity,
        "regulator": "regulator",
    }
    return seal_admission(**{**values, **changes})


def test_an_admission_gives_certificate_and_charter(house: Any) -> None:
    admission = _open(house, _admission(house))
    assert admission.charter == house.charter
    assert admission.charter_envelope == house.sealed()
    assert admission.certificate == house.people["node-a"].certificate
    assert admission.member == house.people["node-a"].member


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"regulator_key": SigningKey.generate().public}, id="other-regulator"),
        pytest.param({"member": "node-b"}, id="other-member"),
        pytest.param({"member": "nobody"}, id="unknown-member"),
        pytest.param({"identity_key": SigningKey.generate().public}, id="other-identity"),
        pytest.param({"log_key": SigningKey.generate().public}, id="other-log"),
        pytest.param({"tls_key_pem": new_tls_key()}, id="other-tls-key"),
    ],
)
def test_an_admission_for_other_keys_is_refused(house: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(EnrolmentError):
        _open(house, _admission(house), **wrong)


def test_an_expired_admission_is_refused(house: Any) -> None:
    with pytest.raises(EnrolmentError, match="expired"):
        _open(house, _admission(house), at=house.now + timedelta(days=366))


def test_an_admission_with_foreign_contents_is_refused(house: Any, make_house: Any) -> None:
    other = make_house()
    person = house.people["node-a"]
    unlisted = house.certify("node-a", "node", person.tls_key)
    foreign = other.certify("node-a", "node", person.tls_key)
    for bad in [
        _admission(house, key=other.regulator.identity),
        _admission(house, charter_envelope=other.sealed()),
        _admission(house, charter_envelope=b"\xff"),
        _admission(house, certificate=foreign),
        _admission(house, certificate=unlisted),
        _admission(house, certificate=house.people["node-b"].certificate),
        _admission(house, certificate="nothing"),
        _admission(house, member="node-b"),
        _admission(house)[:-1],
    ]:
        with pytest.raises(EnrolmentError):
            _open(house, bad)


def test_a_charter_that_is_not_base64_is_refused(house: Any) -> None:
    body = {"v": 1, "member": "node-a", "certificate": "x", "charter": "***"}
    data = envelope.seal(envelope.ADMISSION, body, house.regulator.identity, "regulator")
    with pytest.raises(EnrolmentError, match="base64"):
        _open(house, data)


def test_a_revoked_member_cannot_join(house: Any) -> None:
    house.revoke("node-a")
    with pytest.raises(EnrolmentError, match="revoked"):
        _open(house, _admission(house))


def test_an_admission_holds_no_secret(house: Any) -> None:
    data = json.loads(_admission(house))
    assert "PRIVATE" not in json.dumps(data)
    assert certificates.fingerprint(house.people["node-a"].certificate)
