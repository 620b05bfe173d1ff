"""Ledger entries: what is written is read back, and nothing else is."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_trust import canonical
from hejin_trust.entries import (
    ENTRY_TYPES,
    INTERNAL_TYPES,
    MAX_ENTRY_BYTES,
    EntryError,
    build,
    parse,
)
from hejin_trust.entry_words import TYPES, words

AT = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)
SALT = bytes(range(16))
HASH, HALF = "ab" * 32, "cd" * 16
RATIO = {"num": "1", "den": "8"}
MECHANISM = {
    "mode": "node",
    "sigma": {"num": "4096", "den": "1"},
    "delta_squared": "1099511627776",
    "scale": 1 << 20,
    "nonzeros": 1,
    "dimension": 10,
    "bound_squared": {"num": "1", "den": "1"},
    "statistic": "histogram",
    "version": 1,
    "n": 3,
    "tau": 3,
    "m": 3,
    "t": 0,
    "r": 1,
}
ROUND = {"run": HALF, "round": 1}
MATCH = {
    "session": HALF,
    "bank": "bank-1",
    "definition": "overdue90-12m-v1",
    "definition_hash": HASH,
    "period": "2025",
    "root": HASH,
    "slots": 500,
}
BODIES: dict[str, dict[str, object]] = {
    "genesis": {
        "charter": HASH,
        "certificate": HASH,
        "log_key": HASH,
        "rho_cap": RATIO,
        "rho_alone_cap": RATIO,
        "delta": RATIO,
        "period_from": "2026-01-01T00:00:00Z",
        "period_to": "2027-01-01T00:00:00Z",
    },
    "snapshot": {
        "run": HALF,
        "plan": HASH,
        "root": HASH,
        "schema": HASH,
        "authorisations": HASH,
        "internal_size": 4,
        "internal_root": HASH,
    },
    "authorisation.grant": {
        "enterprise": HALF,
        "document": HASH,
        "grade": "B",
        "purposes": ["credit"],
        "banks": ["bank-1"],
        "categories": ["trade"],
        "features": ["*"],
        "valid_from": "2026-01-01T00:00:00Z",
        "valid_to": "2027-01-01T00:00:00Z",
    },
    "authorisation.revoke": {"grant": 1, "reason": "企业撤回授权"},
    "authorisation.key": {"enterprise": HALF, "key": HASH, "evidence": HASH},
    "authorisation.signature": {"grant": 1, "key": HASH, "signature": HASH * 2},
    "authorisation.use": {"reservation": 3, "authorisations": HASH, "internal_size": 7},
    "erase": {"enterprise": HALF, "reason": "the enterprise asked for it"},
    "withdraw": {
        "dataset": "invoices",
        "load": 3,
        "source": HASH,
        "completed": "2026-01-01T00:00:00Z",
        "rows": 12,
        "reason": "wrong mapping",
    },
    "plan.approve": {
        "plan": HASH,
        "bank": "bank-1",
        "rho": RATIO,
        "rho_train": RATIO,
        "rho_holdout": RATIO,
        "by": "operator",
    },
    "plan.refuse": {"plan": HASH, "bank": "bank-1", "code": "policy", "reason": "no"},
    "reserve": {
        **ROUND,
        "bank": "bank-1",
        "plan": HASH,
        "query": HASH,
        "part": "train",
        "split_key_hash": HASH,
        "round_ctx": HASH,
        "snapshot": HASH,
        "snapshot_seq": 2,
        "mechanism": MECHANISM,
        "rho": RATIO,
        "charge": RATIO,
        "rho_alone": RATIO,
        "charge_alone": RATIO,
    },
    "account": {
        "reservation": 3,
        "spent_before": {"num": "0", "den": "1"},
        "spent_after": RATIO,
        "plan_spent_after": RATIO,
        "bank_spent_after": RATIO,
        "alone_before": {"num": "0", "den": "1"},
        "alone_after": RATIO,
        "period": "2026-01-01T00:00:00Z",
    },
    "release": {
        "reservation": 3,
        **ROUND,
        "round_ctx": HASH,
        "vector": HASH,
        "header": HASH,
    },
    "labels.request": {**MATCH, "size": 123},
    "labels.ask": {**MATCH, "query": HASH, "request": HASH},
    "labels.answer": {
        "session": HALF,
        "node": "node-1",
        "definition": "overdue90-12m-v1",
        "definition_hash": HASH,
        "period": "2025",
        "slots": 500,
        "items": 16384,
        "query": HASH,
        "transcript": HASH,
        "proof_size": 9,
        "proof_root": HASH,
    },
    "void": {"reservation": 3, "reason": "crash"},
    "renew": {"reservation": 3},
    "recover": {"approval": HASH, "reason": "restored from a backup", "size": 12},
    "receipt": {"reservation": 3, **ROUND, "receipt": "e30="},
    "result": {**ROUND, "round_ctx": HASH, "survivors": ["a"], "total": HASH, "votes": ""},
    "labels": {"bank": "bank-1", "definition": "d", "period": "p", "source": "s"},
    "refusal": {"request": HASH, "code": "over-budget", "peer": "bank-1"},
    "plan": {"plan": HASH, "purpose": "credit", "family": "scorecard"},
    "accept": {
        **ROUND,
        "node": "a",
        "plan": HASH,
        "round_ctx": HASH,
        "reservation": 3,
        "header": HASH,
        "vector": HASH,
        "proof_size": 5,
        "proof_root": HASH,
    },
    "burn": {"run": HALF, "round": 3, "giver": "", "taker": ""},
    "model": {"run": HALF, "plan": HASH, "model": HASH, "card": HASH},
}


def test_every_type_has_an_example_here() -> None:
    assert set(BODIES) == set(ENTRY_TYPES)
    assert set(ENTRY_TYPES) > INTERNAL_TYPES


@pytest.mark.parametrize("entry_type", BODIES)
def test_an_entry_is_read_back_as_it_was_built(entry_type: str) -> None:
    entry = build(entry_type, 7, AT, "node-a", BODIES[entry_type], SALT)
    assert parse(entry.raw) == entry
    assert (entry.seq, entry.time, entry.by) == (7, "2026-11-22T20:00:00Z", "node-a")


@pytest.mark.parametrize("entry_type", BODIES)
def test_a_field_too_few_or_too_many_is_refused(entry_type: str) -> None:
    body = BODIES[entry_type]
    with pytest.raises(EntryError, match="unknown field"):
        build(entry_type, 0, AT, "a", {**body, "more": 1}, SALT)
    for key in body:
        with pytest.raises(EntryError, match="missing"):
            build(entry_type, 0, AT, "a", {k: v for k, v in body.items() if k != key}, SALT)


@pytest.mark.parametrize("entry_type", BODIES)
def test_a_field_of_the_wrong_kind_is_refused(entry_type: str) -> None:
    body = BODIES[entry_type]
    for key, value in body.items():
        wrong: object = "x" if not isinstance(value, str) else 5
        with pytest.raises(EntryError):
            build(entry_type, 0, AT, "a", {**body, key: wrong}, SALT)


@pytest.mark.parametrize(
    ("entry_type", "change"),
    [
        pytest.param("reserve", {"rho": {"num": "-1", "den": "8"}}, id="negative-cost"),
        pytest.param("reserve", {"rho": {"num": "2", "den": "16"}}, id="not-lowest-terms"),
        pytest.param("reserve", {"part": "both"}, id="unknown-part"),
        pytest.param("reserve", {"mechanism": {**MECHANISM, "extra": 1}}, id="open-mechanism"),
        pytest.param("reserve", {"mechanism": {**MECHANISM, "mode": "none"}}, id="unknown-mode"),
        pytest.param(
            "reserve", {"mechanism": {**MECHANISM, "delta_squared": "01"}}, id="padded-integer"
        ),
        pytest.param("release", {"vector": "AB" * 32}, id="upper-case-hash"),
        pytest.param("release", {"reservation": -1}, id="negative-index"),
        pytest.param("authorisation.grant", {"valid_to": "2027-01-01"}, id="date-only"),
        pytest.param("result", {"votes": "no"}, id="votes-neither-hash-nor-empty"),
    ],
)
def test_a_value_out_of_range_is_refused(entry_type: str, change: dict[str, object]) -> None:
    with pytest.raises(EntryError):
        build(entry_type, 0, AT, "a", {**BODIES[entry_type], **change}, SALT)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(EntryError, match="does not know"):
        build("monitor", 0, AT, "a", {}, SALT)


def test_an_entry_that_is_too_long_is_refused() -> None:
    features = [f"{'f' * 250}{i}" for i in range(300)]
    body = {**BODIES["authorisation.grant"], "features": features}
    with pytest.raises(EntryError, match=str(MAX_ENTRY_BYTES)):
        build("authorisation.grant", 0, AT, "a", body, SALT)


def test_a_short_salt_is_a_programming_error() -> None:
    with pytest.raises(ValueError):
        build("void", 0, AT, "a", BODIES["void"], b"short")


def test_a_float_never_enters_a_ledger() -> None:
    with pytest.raises(EntryError):
        build("void", 0, AT, "a", {"reservation": 1.0, "reason": ""}, SALT)


def document(**changes: object) -> bytes:
    whole: dict[str, object] = json.loads(build("void", 0, AT, "a", BODIES["void"], SALT).raw)
    return canonical.encode({**whole, **changes})


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="not-an-object"),
        pytest.param(document().replace(b":", b": ", 1), id="not-canonical"),
        pytest.param(document(v=2), id="other-version"),
        pytest.param(document(salt="00"), id="short-salt"),
        pytest.param(document(seq=-1), id="negative-seq"),
        pytest.param(document(time="yesterday"), id="no-time"),
        pytest.param(document(body="x"), id="no-body"),
        pytest.param(document(more=1), id="unknown-field"),
        pytest.param(document(type="unheard-of"), id="unknown-type"),
        pytest.param(b" " * 70_000, id="too-long"),
    ],
)
def test_a_malformed_leaf_is_refused(raw: bytes) -> None:
    with pytest.raises(EntryError):
        parse(raw)


@given(
    reason=st.text(max_size=50),
    seq=st.integers(0, 2**53 - 1),
    salt=st.binary(min_size=16, max_size=16),
)
def test_any_text_survives_the_round_trip(reason: str, seq: int, salt: bytes) -> None:
    entry = build("void", seq, AT, "a", {"reservation": 1, "reason": reason}, salt)
    assert parse(entry.raw) == entry
    assert b"\n" not in entry.raw


@pytest.mark.parametrize("kind", ENTRY_TYPES)
def test_every_entry_can_be_told_in_words(kind: str) -> None:
    told = words(build(kind, 7, AT, "a", BODIES[kind], SALT))
    for text in (told, TYPES[kind]):
        assert text.en
        assert text.zh
        assert "None" not in f"{text.en}{text.zh}"
    assert len(told.en) < 120
    assert TYPES.keys() == ENTRY_TYPES.keys()
