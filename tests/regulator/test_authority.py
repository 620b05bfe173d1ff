"""The regulator's office: founding, admitting and revoking, and what it refuses."""

from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from hejin_regulator import authority
from hejin_regulator.authority import AdmissionError, Office, Terms
from hejin_trust import membership
from hejin_trust.canonical import DocumentError
from hejin_trust.charter import Charter, CharterError, NotAMemberError
from hejin_trust.enrolment import EnrolmentError
from hejin_trust.errors import HejinError
from hejin_trust.files import FileError
from hejin_trust.keys import KeyFileError

NOW = datetime.now(UTC).replace(microsecond=0)
Ask = Callable[..., Path]


def test_founding_makes_keys_and_the_first_charter(office: Office, terms: Terms) -> None:
    charter = office.charter
    assert (charter.consortium, charter.serial, charter.members) == ("hebei", 1, ())
    assert charter.regulator.identity_key == office.identity.public
    assert (charter.rho_cap, charter.delta) == (terms.rho_cap, terms.delta)
    keys = sorted((office.home / "keys").iterdir())
    assert [key.name for key in keys] == ["authority.key", "identity.key", "log.key", "tls.key"]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE((office.home / "keys").stat().st_mode) == 0o700


def test_a_consortium_is_not_founded_twice_in_one_folder(office: Office, terms: Terms) -> None:
    before = (office.home / "charter.json").read_bytes()
    with pytest.raises(KeyFileError, match="never overwritten"):
        authority.init(office.home, terms, NOW)
    assert (office.home / "charter.json").read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"delta": Fraction(1, 1000)},
        {"rho_cap": Fraction(0)},
        {"rho_alone_cap": Fraction(1, 100)},
        {"period_to": NOW - timedelta(days=1)},
        {"minimum_nodes": 0},
        {"consortium": "HEBEI"},
        {"regulator": "../x"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_impossible_terms_leave_the_folder_empty(
    tmp_path: Path, terms: Terms, wrong: dict[str, object]
) -> None:
    with pytest.raises((CharterError, DocumentError)):
        authority.init(tmp_path / "new", replace(terms, **wrong), NOW)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_admission_is_one_charter_and_one_file_a_member(
    office: Office, ask: Ask, tmp_path: Path
) -> None:
    requests = [ask("bank-a", "bank"), ask("node-a"), ask("node-b")]
    admitted = office.admit(requests, tmp_path / "out", NOW)
    assert office.charter.serial == 2
    assert [item.member.id for item in admitted] == ["bank-a", "node-a", "node-b"]
    assert [item.file.name for item in admitted] == [
        f"{name}.admission.json" for name in ("bank-a", "node-a", "node-b")
    ]
    for item in admitted:
        joined = membership.join(
            tmp_path / item.member.id,
            item.member.id,
            office.identity.public,
            item.file.read_bytes(),
        )
        assert joined == office.charter


def test_every_charter_is_kept(office: Office, ask: Ask, tmp_path: Path) -> None:
    office.admit([ask("node-a")], tmp_path / "out", NOW)
    office.revoke("node-a", NOW)
    stored = [
        Charter.parse((office.home / "charters" / f"{n}.json").read_bytes(), office.identity.public)
        for n in (1, 2, 3)
    ]
    assert [charter.serial for charter in stored] == [1, 2, 3]
    assert stored[-1] == office.charter


def test_a_member_is_renewed_with_the_same_keys(office: Office, ask: Ask, tmp_path: Path) -> None:
    request = ask("node-a")
    (first,) = office.admit([request], tmp_path / "out", NOW)
    (second,) = office.admit([request], tmp_path / "out", NOW + timedelta(days=300))
    assert len(office.charter.members) == 1
    assert office.charter.serial == 3
    assert first.member.certificate_fingerprint != second.member.certificate_fingerprint
    assert office.charter.by_fingerprint(first.member.certificate_fingerprint) is None


def test_a_member_with_other_keys_is_refused(office: Office, ask: Ask, tmp_path: Path) -> None:
    office.admit([ask("node-a")], tmp_path / "out", NOW)
    with pytest.raises(AdmissionError, match="other keys"):
        office.admit([ask("node-a", home="again")], tmp_path / "out", NOW)
    with pytest.raises(AdmissionError, match="another role"):
        office.admit([ask("node-a", "bank", home="third")], tmp_path / "out", NOW)
    assert office.charter.serial == 2


def test_one_bad_request_admits_nobody(office: Office, ask: Ask, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with pytest.raises(EnrolmentError):
        office.admit([ask("node-a"), bad], tmp_path / "out", NOW)
    assert office.charter.serial == 1
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_admitted_is_refused(office: Office, ask: Ask, tmp_path: Path) -> None:
    node = ask("node-a")
    cases = [
        ([ask("small", band=(99, 5000))], "declares at least 99"),
        ([ask("regulator", "bank", home="impostor")], "regulator's own name"),
        ([node, node], "same member"),
    ]
    for requests, message in cases:
        with pytest.raises(AdmissionError, match=message):
            office.admit(requests, tmp_path / "out", NOW)
    with pytest.raises(FileError, match="cannot be used"):
        office.admit([tmp_path / "missing"], tmp_path / "out", NOW)
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be used"):
        office.admit([node], tmp_path / "file", NOW)
    huge = tmp_path / "huge"
    huge.write_bytes(b" " * (2 << 20))
    with pytest.raises(EnrolmentError, match="bytes"):
        office.admit([huge], tmp_path / "out", NOW)
    assert office.charter.serial == 1


@pytest.mark.parametrize("name", ["witness", "charters"])
def test_a_member_is_not_named_as_a_part_of_an_export(
    name: str, office: Office, ask: Ask, tmp_path: Path
) -> None:
    with pytest.raises(AdmissionError, match="part of an export") as refused:
        office.admit([ask(name)], tmp_path / "out", NOW)
    assert refused.value.code == "not-admissible"
    assert "导出" in refused.value.text.zh
    assert office.charter.serial == 1


def test_revocation_is_final(office: Office, ask: Ask, tmp_path: Path) -> None:
    request = ask("node-a")
    office.admit([request], tmp_path / "out", NOW)
    charter = office.revoke("node-a", NOW)
    assert charter.member("node-a").status == "revoked"
    assert charter == office.charter
    with pytest.raises(NotAMemberError, match="revoked"):
        office.revoke("node-a", NOW)
    with pytest.raises(AdmissionError, match="final"):
        office.admit([request], tmp_path / "out", NOW)


def test_only_members_can_be_revoked(office: Office) -> None:
    with pytest.raises(NotAMemberError):
        office.revoke("nobody", NOW)
    with pytest.raises(AdmissionError, match="itself"):
        office.revoke("regulator", NOW)


def test_commands_at_once_never_issue_one_serial_twice(
    office: Office, ask: Ask, tmp_path: Path
) -> None:
    requests = [ask(f"node-{i}") for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda r: Office(office.home).admit([r], tmp_path / "out", NOW), requests))
    assert office.charter.serial == 7
    assert len(office.charter.members) == 6


def test_a_crash_before_the_admission_files_is_repaired_by_repeating(
    office: Office, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, write = ask("node-a"), authority.replace_file

    def crash(path: Path, data: bytes) -> None:
        if path.parent.name == "out":
            raise FileError("power failed", "断电")
        write(path, data)

    monkeypatch.setattr(authority, "replace_file", crash)
    with pytest.raises(FileError, match="power"):
        office.admit([request], tmp_path / "out", NOW)
    monkeypatch.undo()
    (item,) = office.admit([request], tmp_path / "out", NOW)
    admission = item.file.read_bytes()
    membership.join(tmp_path / "node-a", "node-a", office.identity.public, admission)


def test_a_folder_that_is_no_office_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HejinError, match="put back your copy"):
        Office(tmp_path)
