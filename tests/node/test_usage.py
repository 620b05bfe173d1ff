"""What is kept of a run's authorisations is read back as it was, and tells who was left out."""

from __future__ import annotations

import itertools
from typing import get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hejin_models.uscc import make_code
from hejin_node import usage
from hejin_node.consent import grant_many
from hejin_node.terms import read_terms
from hejin_trust.database import reading, writing

KEY = bytes(range(32))
_runs = itertools.count()
_codes = itertools.count(5000)
TERMS = read_terms(
    document="ab" * 32, grade="B", purposes=["model-training"], banks=["*"], categories=["*"],
    features=["*"], valid_from="2026-01-01", valid_to="2027-01-01",
)  # fmt: skip
FATES = st.lists(st.sampled_from(get_args(usage.Fate)), max_size=12)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(fates=FATES, data_=st.data())
def test_fates_and_those_left_out_are_what_a_dictionary_would_say(
    data, fates: list[usage.Fate], data_: st.DataObject
) -> None:
    run, codes = f"{next(_runs):032x}", [make_code(next(_codes)) for _ in fates]
    with writing(data.database) as connection:
        seqs = grant_many(connection, data.log, b"p" * 32, [(code, TERMS) for code in codes]).seqs
        told = dict(zip(seqs, fates, strict=True))
        usage.note_run(connection, KEY, run, "2026-06-01T00:00:00Z", told)
    inside = [code for code, fate in zip(codes, fates, strict=True) if fate == "used"]
    staying = data_.draw(st.sets(st.sampled_from(inside))) if inside else set()
    with reading(data.database) as connection:
        found = usage.find_run(connection, KEY, run)
        out = usage.left_out(connection, KEY, run, staying)
    assert found is not None
    assert found.taken == "2026-06-01T00:00:00Z"
    assert {seq: found.fate(seq) for seq in seqs} == told
    assert found.fate(max(seqs, default=0) + 1) is None
    assert found.used.tolist() == [seq for seq, fate in sorted(told.items()) if fate == "used"]
    by_code = dict(zip(codes, seqs, strict=True))
    assert out is not None
    assert set(out) == {by_code[code] for code in inside if code not in staying}
    with writing(data.database) as connection:
        usage.note_sum(connection, KEY, next(_runs), "2026-06-01T00:00:00Z", out)


def test_what_was_never_kept_is_not_known(data) -> None:
    with reading(data.database) as connection:
        assert usage.find_run(connection, KEY, "ab" * 16) is None
        assert usage.left_out(connection, KEY, "ab" * 16, {make_code(1)}) is None
        assert usage.find_sum(connection, KEY, 10**6) is None
