"""The certificate status list: every certificate's time, from all charters, signed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from mirror_world import START

from hejin_regulator.authority import Office
from hejin_regulator.certificate_status import CertificateStatus, read_charters, standings
from hejin_trust.canonical import DocumentError, time_text
from hejin_trust.charter import Charter, CharterError
from hejin_trust.clock import now
from hejin_trust.envelope import CERTIFICATE_STATUS, EnvelopeError, open_envelope, seal
from hejin_trust.files import FileError
from hejin_trust.keys import SigningKey

Ask = Callable[..., Path]


def row(office: Office) -> list[Charter]:
    return list(read_charters(office.home, office.charter, office.identity.public))


@pytest.fixture
def changed(office: Office, ask: Ask, tmp_path: Path) -> Office:
    """Charters 1 to 5: founded; two nodes; a new certificate of one; the other gone; a bank."""
    first, second = ask("node-a"), ask("node-b")
    at = now()
    for minute, change in enumerate(
        (
            lambda at: office.admit([first, second], tmp_path / "out", at),
            lambda at: office.admit([first], tmp_path / "out", at),
            lambda at: office.revoke("node-b", at),
            lambda at: office.admit([ask("bank-a", "bank")], tmp_path / "out", at),
        ),
        1,
    ):
        change(at + timedelta(minutes=minute))
    return office


def test_each_certificate_counts_from_its_first_charter_until_it_is_replaced_or_revoked(
    changed: Office,
) -> None:
    charters = row(changed)
    issued = [charter.issued for charter in charters]
    found = {(item.member, item.since): (item.until, item.reason) for item in standings(charters)}
    assert found == {
        ("regulator", issued[0]): ("", ""),
        ("node-a", issued[1]): (issued[2], "superseded"),
        ("node-a", issued[2]): ("", ""),
        ("node-b", issued[1]): (issued[3], "revoked"),
        ("bank-a", issued[4]): ("", ""),
    }
    named = {m.certificate_fingerprint for c in charters for m in (c.regulator, *c.members)}
    assert {item.fingerprint for item in standings(charters)} == named


def test_the_signed_list_is_read_back_and_names_every_charter(changed: Office) -> None:
    status, signed = changed.certificate_status(START)
    assert CertificateStatus.parse(signed, changed.identity.public) == status
    assert status.issued == time_text(START)
    assert [(item.serial, item.digest) for item in status.charters] == [
        (charter.serial, charter.digest) for charter in row(changed)
    ]
    with pytest.raises(EnvelopeError):
        CertificateStatus.parse(signed, SigningKey.generate().public)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"reason": "lost"}, id="unknown-reason"),
        pytest.param({"reason": ""}, id="ended-without-a-reason"),
        pytest.param({"to": ""}, id="a-reason-without-an-end"),
        pytest.param({"to": "yesterday"}, id="no-time"),
        pytest.param({"fingerprint": "ab"}, id="short-fingerprint"),
        pytest.param({"role": "guest"}, id="unknown-role"),
        pytest.param({"more": 1}, id="unknown-field"),
    ],
)
def test_a_malformed_list_is_refused(changed: Office, change: dict[str, object]) -> None:
    _, signed = changed.certificate_status(START)
    key = changed.identity
    body = open_envelope(signed, CERTIFICATE_STATUS, key.public).body
    certificates = body["certificates"]
    assert isinstance(certificates, list)
    ended = next(item for item in certificates if item["reason"])
    ended.update(change)
    with pytest.raises(DocumentError):
        CertificateStatus.parse(seal(CERTIFICATE_STATUS, body, key, "regulator"), key.public)


def test_a_charter_that_is_missing_or_misplaced_is_said(changed: Office) -> None:
    third = changed.home / "charters" / "3.json"
    kept = third.read_bytes()
    third.unlink()
    with pytest.raises(FileError, match="from a backup"):
        changed.certificate_status(START)
    third.write_bytes((changed.home / "charters" / "2.json").read_bytes())
    with pytest.raises(CharterError, match="not charter number 3"):
        changed.certificate_status(START)
    third.write_bytes(kept)
    other = replace(changed.charter, issued="2020-01-01T00:00:00Z").seal(changed.identity)
    (changed.home / "charters" / "5.json").write_bytes(other)
    with pytest.raises(CharterError, match="not charter number 5"):
        changed.certificate_status(START)
