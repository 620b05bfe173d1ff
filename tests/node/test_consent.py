"""Authorisations: who is entitled to what, when, and that the log says the same."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hejin_models.errors import CodeError
from hejin_models.uscc import make_code
from hejin_node import consent
from hejin_node.bulk import CSV_COLUMNS, read_grants
from hejin_node.consent import (
    authorisations,
    entitled,
    grant,
    grant_in_parts,
    grant_many,
    pseudonym,
    revoke,
)
from hejin_node.errors import ConsentError
from hejin_node.terms import Terms, parse_day
from hejin_trust.canonical import DocumentError
from hejin_trust.database import reading, writing

A, B, C = (make_code(n) for n in range(3))
KEY = b"p" * 32
_numbers = itertools.count(1000)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
TERMS = Terms(
    document="ab" * 32,
    grade="B",
    purposes=("model-training",),
    banks=("bank-1", "bank-2"),
    categories=("trade", "production"),
    features=("net", "staff"),
    valid_from=NOW - timedelta(days=1),
    valid_to=NOW + timedelta(days=1),
)
ASKED = {
    "purpose": "model-training",
    "bank": "bank-1",
    "categories": ("trade",),
    "features": ("net",),
    "at": NOW,
}


def give(data, code: str, terms: Terms = TERMS) -> int:
    with writing(data.database) as connection:
        return grant(connection, data.log, KEY, code, terms)


def entitled_now(data, **changes: object) -> dict[str, int]:
    with reading(data.database) as connection:
        return entitled(connection, **{**ASKED, **changes})  # type: ignore[arg-type]


def test_a_pseudonym_is_half_an_hmac() -> None:
    expected = hmac.new(KEY, A.encode(), hashlib.sha256).digest()[:16].hex()
    assert pseudonym(KEY, A) == expected
    assert len(expected) == 32


def test_a_grant_is_logged_by_pseudonym_in_the_same_transaction(data) -> None:
    seq = give(data, A)
    with reading(data.database) as connection:
        entry = data.log.entry(connection, seq)
        (one,) = authorisations(connection)
        leaves = b"".join(data.log.entries(connection))
    assert (entry.type, entry.body["enterprise"]) == ("authorisation.grant", pseudonym(KEY, A))
    assert entry.body["banks"] == ["bank-1", "bank-2"]
    assert A.encode() not in leaves
    assert (one.seq, one.code, one.revoked_seq) == (seq, A, None)
    assert one.terms == replace(TERMS, categories=("production", "trade"))


def test_a_rolled_back_grant_is_neither_logged_nor_in_force(data) -> None:
    with pytest.raises(RuntimeError), writing(data.database) as connection:  # noqa: PT012
        grant(connection, data.log, KEY, A, TERMS)
        raise RuntimeError("stop")
    with reading(data.database) as connection:
        assert data.log.size(connection) == 0
    assert entitled_now(data) == {}


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"purpose": "credit-approval"}, False),
        ({"bank": "bank-2"}, True),
        ({"bank": "bank-3"}, False),
        ({"categories": ("trade", "production")}, True),
        ({"categories": ("trade", "logistics")}, False),
        ({"features": ("net", "staff")}, True),
        ({"features": ("net", "other")}, False),
        ({"at": TERMS.valid_from}, True),
        ({"at": TERMS.valid_from - timedelta(seconds=1)}, False),
        ({"at": TERMS.valid_to - timedelta(seconds=1)}, True),
        ({"at": TERMS.valid_to}, False),
    ],
)
def test_only_what_one_grant_covers_is_allowed(
    data, changes: dict[str, object], fits: bool
) -> None:
    seq = give(data, A)
    assert entitled_now(data, **changes) == ({A: seq} if fits else {})


def test_a_star_covers_all_banks_categories_and_features(data) -> None:
    seq = give(data, A, replace(TERMS, banks=("*",), categories=("*",), features=("*",)))
    found = entitled_now(data, bank="any", categories=("logistics",), features=("whatever",))
    assert found == {A: seq}
    assert entitled_now(data, bank="outcome", features=("outcome",)) == {A: seq}
    assert entitled_now(data, purpose="post-loan-monitoring") == {}


@pytest.mark.parametrize(
    ("categories", "covers"),
    [
        (("*",), False),
        (("trade",), False),
        (("outcome",), True),
        (("*", "outcome"), True),
        (("trade", "outcome"), True),
    ],
)
def test_the_outcome_must_be_named_no_star_covers_it(
    data, categories: tuple[str, ...], covers: bool
) -> None:
    seq = give(data, A, replace(TERMS, categories=categories))
    assert entitled_now(data, categories=("outcome",), features=()) == ({A: seq} if covers else {})


def test_a_grant_of_all_data_and_the_outcome_covers_a_view_too(data) -> None:
    seq = give(data, A, replace(TERMS, categories=("*", "outcome")))
    assert entitled_now(data) == {A: seq}


def test_a_star_stands_beside_the_outcome_and_nothing_else(data) -> None:
    for categories in (("*", "trade"), ("*", "outcome", "trade"), ("outcome", "outcome")):
        with pytest.raises(ConsentError, match="categories"):
            replace(TERMS, categories=categories)


def test_two_grants_do_not_add_up(data) -> None:
    give(data, A, replace(TERMS, categories=("trade",)))
    give(data, A, replace(TERMS, categories=("production",)))
    assert entitled_now(data, categories=("trade", "production")) == {}


def test_the_newest_grant_that_fits_is_named(data) -> None:
    first = give(data, A)
    assert first == give(data, A)  # the same words again: nothing new
    second = give(data, A, replace(TERMS, document="cd" * 32))
    give(data, A, replace(TERMS, purposes=("credit-approval",)))
    assert entitled_now(data) == {A: second}


def test_nobody_authorised_is_an_empty_answer(data) -> None:
    assert entitled_now(data) == {}


def test_revocation_by_code_ends_all_grants_of_that_enterprise(data) -> None:
    first = give(data, A)
    second = give(data, A, replace(TERMS, document="cd" * 32))
    other = give(data, B)
    with writing(data.database) as connection:
        assert revoke(connection, data.log, "asked by phone", code=A) == (first, second)
    assert entitled_now(data) == {B: other}
    with reading(data.database) as connection:
        entry = data.log.entry(connection, 4)
        ended = authorisations(connection, code=A)
        assert [one.code for one in authorisations(connection, at=NOW)] == [B]
    assert (entry.type, entry.body) == (
        "authorisation.revoke", {"grant": second, "reason": "asked by phone"},
    )  # fmt: skip
    assert [one.revoked_seq for one in ended] == [3, 4]
    assert all(one.revoked_at for one in ended)


def test_revocation_by_seq_ends_that_grant_alone(data) -> None:
    first = give(data, A)
    second = give(data, A, replace(TERMS, document="cd" * 32))
    with writing(data.database) as connection:
        revoke(connection, data.log, "", seq=second)
    assert entitled_now(data) == {A: first}
    third = give(data, A, replace(TERMS, document="ef" * 32))  # given anew: a new grant
    assert entitled_now(data) == {A: third}


def test_what_was_revoked_does_not_come_back_by_the_same_words(data) -> None:
    """A bulk file from before a revocation, or a signed form used twice, undoes nothing."""
    give(data, A)
    other = give(data, B)
    with writing(data.database) as connection:
        revoke(connection, data.log, "left", code=A)
    for _ in range(2):
        done = grant_in_parts(data.database, data.log, KEY, [(A, TERMS), (B, TERMS)])
        assert done == (0, 1, 1)
        assert entitled_now(data) == {B: other}
    with pytest.raises(ConsentError, match="was revoked"):
        give(data, A)
    assert entitled_now(data) == {B: other}


def test_what_does_not_stand_cannot_be_revoked(data) -> None:
    seq = give(data, A)
    with writing(data.database) as connection:
        revoke(connection, data.log, "", seq=seq)
        for which in ({"seq": seq}, {"code": A}, {"code": B}, {"seq": 99}):
            with pytest.raises(ConsentError, match="no such authorisation"):
                revoke(connection, data.log, "", **which)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="code or a seq"):
            revoke(connection, data.log, "")


def test_a_wrong_code_is_not_recorded(data) -> None:
    with pytest.raises(CodeError), writing(data.database) as connection:
        grant_many(connection, data.log, KEY, [(A, TERMS), ("not a code", TERMS)])
    assert entitled_now(data) == {}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"document": "xyz"}, "document"),
        ({"document": "AB" * 32}, "document"),
        ({"grade": "C"}, "grade"),
        ({"purposes": ()}, "purposes"),
        ({"purposes": ("*",)}, "purposes"),
        ({"purposes": ("marketing",)}, "purposes"),
        ({"banks": ("bank-1", "bank-1")}, "banks"),
        ({"banks": ("*", "bank-1")}, "banks"),
        ({"banks": ("Bank",)}, "banks"),
        ({"categories": ("weather",)}, "categories"),
        ({"features": ("",)}, "features"),
        ({"valid_to": TERMS.valid_from}, "valid_to"),
    ],
)
def test_terms_that_make_no_sense_do_not_exist(changes: dict[str, object], field: str) -> None:
    with pytest.raises(ConsentError, match=f"`{field}`"):
        replace(TERMS, **changes)  # type: ignore[arg-type]


def test_days_and_times_are_utc() -> None:
    assert parse_day("2026-01-02") == datetime(2026, 1, 2, tzinfo=UTC)
    assert parse_day("2026-01-02T03:04:05Z") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    with pytest.raises(DocumentError):
        parse_day("2 January")
    for year in ("0999", "1999", "9999"):
        with pytest.raises(DocumentError, match="2000 to 9998"):
            parse_day(f"{year}-12-31")


ROW = "{code},{doc},B,model-training;credit-approval,*,trade,net; staff,2026-01-01,2027-01-01\n"


def bulk(folder: Path, rows: list[str], encoding: str = "utf-8") -> Path:
    path = folder / "bulk.csv"
    path.write_text(",".join(CSV_COLUMNS) + "\n" + "".join(rows), encoding)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_bulk_file_is_read_and_recorded_once(data, encoding: str) -> None:
    rows = [ROW.format(code=code, doc="ab" * 32) for code in (A, B, C)]
    grants = read_grants(bulk(data.folder, rows, encoding))
    assert [one.code for one in grants] == [A, B, C]
    assert grants[0][1].purposes == ("model-training", "credit-approval")
    assert grants[0][1].features == ("net", "staff")
    for already in (0, 3):
        with writing(data.database) as connection:
            done = grant_many(connection, data.log, KEY, grants)
        assert (len(done.seqs), done.already) == (3, already)
    assert sorted(entitled_now(data)) == sorted([A, B, C])


def test_a_bulk_file_names_a_row_twice_but_grants_once(data) -> None:
    row = ROW.format(code=A, doc="ab" * 32)
    with writing(data.database) as connection:
        done = grant_many(connection, data.log, KEY, read_grants(bulk(data.folder, [row, row])))
    assert (done.seqs, done.already) == ((0, 0), 1)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (A, "X" + A[1:], "Row 2: A text is no unified social credit code"),
        ("ab" * 32, "ab", "`document`"),
        ("trade", "weather", "`categories`"),
        ("2026-01-01", "1.1.2026", "`valid_from`"),
        ("2027-01-01", "", "`valid_to`"),
        (",2027-01-01", "", "`valid_to`"),
        ("2027-01-01", "2027-01-01,more", "more values"),
    ],
)
def test_one_bad_row_and_nothing_of_the_file_is_used(data, old: str, new: str, said: str) -> None:
    row = ROW.format(code=A, doc="ab" * 32)
    assert old in row
    rows = [ROW.format(code=B, doc="ab" * 32), row.replace(old, new)]
    with pytest.raises(ConsentError, match=said) as caught:
        read_grants(bulk(data.folder, rows))
    assert "1 of 2 rows" in str(caught.value)
    assert A[1:] not in str(caught.value)


def test_a_bulk_file_of_another_shape_is_refused(data) -> None:
    path = bulk(data.folder, [])
    with pytest.raises(ConsentError, match="must have rows"):
        read_grants(path)
    path.write_text("code,document\n1,2\n")
    with pytest.raises(ConsentError, match="exactly the columns"):
        read_grants(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConsentError, match="not a CSV file in utf-8"):
        read_grants(path)
    path.write_text(",".join(CSV_COLUMNS) + f'\n{A},"open\n')
    with pytest.raises(ConsentError, match="not a CSV file"):
        read_grants(path)
    with pytest.raises(ConsentError, match="No such file"):
        read_grants(data.folder / "absent.csv")


def test_six_thousand_authorisations_are_imported_in_seconds(data) -> None:
    rows = [ROW.format(code=make_code(n), doc=f"{n:064x}") for n in range(6000)]
    path = bulk(data.folder, rows)
    began = time.process_time()
    with writing(data.database) as connection:
        grant_many(connection, data.log, KEY, read_grants(path))
    assert len(entitled_now(data)) == 6000
    assert time.process_time() - began < 8  # about 2 s on an idle core


_SCOPE = st.tuples(
    st.sets(st.sampled_from(["trade", "production", "logistics"]), min_size=1),
    st.sets(st.sampled_from(["net", "staff"]), min_size=1) | st.just({"*"}),
    st.integers(-2, 2),  # first day in force, from today
    st.booleans(),  # revoked
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    scopes=st.lists(_SCOPE, max_size=6),
    categories=st.sets(st.sampled_from(["trade", "production"])),
    features=st.sets(st.sampled_from(["net", "staff"])),
)
def test_entitlement_is_what_a_reader_of_the_grants_would_say(
    data, scopes: list[tuple[set[str], set[str], int, bool]], categories: set[str],
    features: set[str],
) -> None:  # fmt: skip
    code = make_code(next(_numbers))
    expected = None
    for place, (gives, shows, day, revoked) in enumerate(scopes):
        terms = Terms(
            document=f"{place:064x}",
            grade="B",
            purposes=("model-training",),
            banks=("*",),
            categories=tuple(gives),  # type: ignore[arg-type]
            features=tuple(shows),
            valid_from=NOW + timedelta(days=day),
            valid_to=NOW + timedelta(days=day + 2),
        )
        seq = give(data, code, terms)
        if revoked:
            with writing(data.database) as connection:
                revoke(connection, data.log, "", seq=seq)
        elif categories <= gives and (features <= shows or "*" in shows) and -2 < day <= 0:
            expected = seq
    found = entitled_now(data, categories=categories, features=features)
    assert found.get(code) == expected


def test_a_bulk_import_lets_others_write_and_goes_on_after_an_interruption(
    data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent, "PART", 3)
    codes = [make_code(next(_numbers)) for _ in range(10)]
    grants = [(code, TERMS) for code in codes]
    between: list[int] = []

    def others_turn(_: float) -> None:
        with writing(data.database) as connection:
            between.append(len(authorisations(connection)))
        if len(between) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(consent.time, "sleep", others_turn)
    with pytest.raises(KeyboardInterrupt):
        grant_in_parts(data.database, data.log, KEY, grants)
    assert between == [3, 6]
    assert grant_in_parts(data.database, data.log, KEY, grants) == (4, 6, 0)
    assert grant_in_parts(data.database, data.log, KEY, grants) == (0, 10, 0)
    with reading(data.database) as connection:
        assert [one.code for one in authorisations(connection)] == codes
        assert data.log.size(connection) == 10


@pytest.mark.parametrize("reason", [A, f"letter of {A.lower()}, 3 May"])
def test_a_reason_that_names_the_enterprise_is_refused(data, reason: str) -> None:
    """The log names it by its pseudonym alone: the reason would tell whose that is."""
    seq = give(data, A)
    for which in ({"code": A}, {"seq": seq}):
        with (
            writing(data.database) as connection,
            pytest.raises(ConsentError, match="does not name the enterprise"),
        ):
            revoke(connection, data.log, reason, **which)  # type: ignore[arg-type]
    assert entitled_now(data).keys() == {A}
