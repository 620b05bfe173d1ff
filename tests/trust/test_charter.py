"""The charter: its rules, whose word it is, and that it never goes back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from hejin_trust import canonical, envelope
from hejin_trust.canonical import DocumentError, time_from, time_text
from hejin_trust.charter import Charter, CharterError, CharterSource, NotAMemberError
from hejin_trust.files import FileError
from hejin_trust.keys import KeyFileError, SigningKey
from hejin_trust.members import Member, check_address, check_id
from hejin_trust.text import Text


def test_a_charter_reads_back_as_it_was_signed(house: Any) -> None:
    charter = house.charter
    parsed = Charter.parse(house.sealed(), house.regulator.identity.public)
    assert parsed == charter
    assert parsed.digest == charter.digest
    opened = envelope.open_envelope(
        house.sealed(), envelope.CHARTER, house.regulator.identity.public
    )
    assert opened.digest == charter.digest


def test_only_the_pinned_regulator_can_issue_one(house: Any) -> None:
    usurper = SigningKey.generate()
    with pytest.raises(CharterError, match="signature"):
        Charter.parse(house.charter.seal(usurper), house.regulator.identity.public)
    with pytest.raises(CharterError, match="another regulator"):
        Charter.parse(house.charter.seal(usurper), usurper.public)
    renamed = envelope.seal(
        envelope.CHARTER, house.charter.body(), house.regulator.identity, "bank-a"
    )
    with pytest.raises(CharterError, match="another regulator"):
        Charter.parse(renamed, house.regulator.identity.public)


@pytest.mark.parametrize(
    "wrong",
    [
        {"delta": Fraction(1, 10**6) + Fraction(1, 10**12)},
        {"delta": Fraction(0)},
        {"rho_cap": Fraction(0)},
        {"rho_cap": Fraction(-1)},
        {"rho_alone_cap": Fraction(1, 11)},
        {"period_to": "2020-01-01T00:00:00Z"},
        {"period_from": "yesterday"},
        {"issued": "2026-11-22"},
        {"serial": 0},
        {"minimum_nodes": 0},
        {"minimum_enterprises": 0},
        {"r": 0},
        {"nonce": b"short"},
        {"consortium": "He Bei"},
    ],
    ids=str,
)
def test_limits_outside_their_range_are_refused(house: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises((CharterError, DocumentError)):
        replace(house.charter, **wrong)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("id", "share one id"),
        ("identity_key", "share one key"),
        ("log_key", "share one key"),
        ("certificate_fingerprint", "share one certificate"),
    ],
)
def test_two_members_share_nothing(house: Any, field: str, message: str) -> None:
    first, second, *rest = house.charter.members
    twin = replace(second, **{field: getattr(first, field)})
    with pytest.raises(CharterError, match=message):
        replace(house.charter, members=(first, twin, *rest))


def test_one_members_log_key_is_not_anothers_identity_key(house: Any) -> None:
    first, second, *rest = house.charter.members
    crossed = replace(second, log_key=first.identity_key)
    with pytest.raises(CharterError, match="share one key"):
        replace(house.charter, members=(first, crossed, *rest))


def test_there_is_one_regulator_and_it_is_one(house: Any) -> None:
    regulator, bank = house.charter.regulator, house.charter.member("bank-a")
    with pytest.raises(CharterError, match="second regulator"):
        replace(house.charter, members=(replace(bank, role="regulator"),))
    for issuer in (bank, replace(regulator, status="revoked")):
        with pytest.raises(CharterError, match="issuer"):
            replace(house.charter, regulator=issuer, members=())


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "-a"},
        {"id": "A"},
        {"id": "a" * 64},
        {"id": "../etc"},
        {"id": "a\n"},
        {"name": Text("", "节点")},
        {"name": Text("a\nb", "节点")},
        {"name": Text("a" * 101, "节点")},
        {"size_band": None},
        {"size_band": (0, 10)},
        {"size_band": (10, 9)},
        {"size_band": (10, 10**9)},
        {"role": "bank"},
        {"certificate_fingerprint": "AB" * 32},
        {"identity_key": bytes(32)},
        {"log_key": b"short"},
        {"address": "host"},
        {"address": "host:0"},
        {"address": "host:65536"},
        {"address": "ho st:1"},
    ],
    ids=str,
)
def test_a_member_outside_its_ranges_is_refused(house: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises((DocumentError, KeyFileError)):
        replace(house.people["node-a"].member, **wrong)


def test_one_key_for_documents_and_logs_is_refused(house: Any) -> None:
    member = house.people["node-a"].member
    with pytest.raises(DocumentError, match="one key"):
        replace(member, log_key=member.identity_key)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:65535", "bank.example.cn:8443"])
def test_addresses_are_host_and_port(address: str) -> None:
    check_address(address)


def test_a_name_may_be_63_characters_long() -> None:
    check_id("0" + "-" * 62)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.pop("r"),
        lambda body: body.update(extra="x"),
        lambda body: body.update(v=2),
        lambda body: body.update(serial="1"),
        lambda body: body["members"][0].update(extra="x"),
        lambda body: body["members"][0].update(role="king"),
        lambda body: body["members"][0].update(status="gone"),
        lambda body: body["members"][1].update(size_band=[5]),
        lambda body: body["members"][0]["name"].update(fr="Banque"),
        lambda body: body["members"][0].update(identity_key="00" * 32),
    ],
)
def test_a_signed_charter_of_another_form_is_refused(
    house: Any, change: Callable[[Any], Any]
) -> None:
    body = house.charter.body()
    change(body)
    data = envelope.seal(envelope.CHARTER, body, house.regulator.identity, "regulator")
    with pytest.raises(CharterError):
        Charter.parse(data, house.regulator.identity.public)


def test_members_are_found_by_name_role_and_certificate(house: Any) -> None:
    house.revoke("node-b")
    charter = house.charter
    bank = charter.member("bank-a", "bank")
    assert charter.by_fingerprint(bank.certificate_fingerprint) == bank
    assert charter.by_fingerprint("00" * 32) is None
    assert charter.member("regulator") == charter.regulator
    assert charter.admitted("node-a", "node").admitted
    assert charter.member("node-b").status == "revoked"
    with pytest.raises(NotAMemberError, match="revoked"):
        charter.admitted("node-b")
    with pytest.raises(NotAMemberError, match="no bank"):
        charter.member("node-a", "bank")
    with pytest.raises(NotAMemberError, match="no member"):
        charter.member("nobody")


def test_a_member_reads_back(house: Any) -> None:
    member = replace(house.people["bank-a"].member, address="127.0.0.1:9000")
    assert Member.from_body(canonical.decode(canonical.encode(member.body()))) == member


@pytest.fixture
def source(house: Any, tmp_path: Path) -> CharterSource:
    path = tmp_path / "charter.json"
    path.write_bytes(house.sealed())
    return CharterSource(path, house.regulator.identity.public)


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(
    house: Any, source: CharterSource
) -> None:
    first = source.current()
    assert source.current() is first
    house.revoke("node-b")
    source.path.write_bytes(house.sealed())
    assert source.current().serial == 2
    assert source.signed() == house.sealed()


def test_an_older_charter_in_the_file_is_refused_until_it_is_repaired(
    house: Any, source: CharterSource
) -> None:
    old = house.sealed()
    house.revoke("node-b")
    new = house.sealed()
    source.update(new)
    source.path.write_bytes(old)
    for _ in range(2):
        with pytest.raises(CharterError, match="lower"):
            source.current()
    source.path.write_bytes(new)
    assert source.current().serial == 2


def test_two_charters_with_one_serial_are_refused(house: Any, source: CharterSource) -> None:
    source.current()
    house.nonce = b"m" * 32
    with pytest.raises(CharterError, match="two charters"):
        source.update(house.sealed())
    source.path.write_bytes(house.sealed())
    with pytest.raises(CharterError, match="two charters"):
        source.current()


def test_a_running_budget_period_is_never_cut(house: Any, source: CharterSource) -> None:
    """A second period inside the first would give every account its budget twice."""
    charter = source.current()
    begun, ends = time_from(charter.period_from), time_from(charter.period_to)
    for period_from, period_to in (
        (begun + timedelta(days=1), ends),
        (begun, ends - timedelta(days=1)),
        (ends - timedelta(seconds=1), ends + timedelta(days=365)),
    ):
        cut = replace(
            charter, serial=9, period_from=time_text(period_from), period_to=time_text(period_to)
        )
        with pytest.raises(CharterError, match="budget period"):
            source.update(cut.seal(house.regulator.identity))
    following = replace(
        charter,
        serial=9,
        period_from=charter.period_to,
        period_to=time_text(ends + timedelta(days=365)),
    )
    assert source.update(following.seal(house.regulator.identity)) == following


def test_the_nonce_never_changes(house: Any, source: CharterSource) -> None:
    """An enterprise that changed sides in the middle of a plan would be charged for one of them."""
    other = replace(house.charter, nonce=b"m" * 32, serial=9)
    with pytest.raises(CharterError, match="fixed at founding"):
        source.update(other.seal(house.regulator.identity))


def test_another_consortium_of_the_same_regulator_is_refused(
    house: Any, source: CharterSource
) -> None:
    other = replace(house.charter, consortium="henan", serial=9)
    with pytest.raises(CharterError, match="another consortium"):
        source.update(other.seal(house.regulator.identity))


def test_an_update_that_arrives_late_changes_nothing(house: Any, source: CharterSource) -> None:
    old = house.sealed()
    house.revoke("node-b")
    assert source.update(house.sealed()).serial == 2
    assert source.update(old).serial == 2
    assert source.path.read_bytes() == house.sealed()


def test_an_update_by_another_key_leaves_the_file_alone(house: Any, source: CharterSource) -> None:
    before = source.path.read_bytes()
    with pytest.raises(CharterError):
        source.update(house.charter.seal(SigningKey.generate()))
    assert source.path.read_bytes() == before


def test_the_first_update_creates_the_file(house: Any, tmp_path: Path) -> None:
    source = CharterSource(tmp_path / "new.json", house.regulator.identity.public)
    with pytest.raises(CharterError, match="join"):
        source.current()
    assert source.update(house.sealed()) == house.charter
    assert [path.name for path in tmp_path.iterdir()] == ["new.json"]


def test_a_truncated_file_is_refused(house: Any, source: CharterSource) -> None:
    source.path.write_bytes(house.sealed()[:-20])
    with pytest.raises(CharterError):
        source.current()


def test_a_full_disk_leaves_the_old_charter(
    house: Any, source: CharterSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = source.path.read_bytes()
    house.revoke("node-b")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        source.update(house.sealed())
    assert source.path.read_bytes() == before
    assert list(source.path.parent.iterdir()) == [source.path]
