"""The documents of a private set intersection for labels: read as written, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_privacy.label_messages import LabelAnswer, LabelQuestion
from hejin_privacy.set_intersection import MOST_ITEMS, MOST_SLOTS
from hejin_trust.canonical import DocumentError, decode, encode

HASH, HALF, TIME = "ab" * 32, "cd" * 16, "2026-11-28T16:00:00Z"
QUESTION = LabelQuestion(HALF, "bank-1", "overdue90-12m-v1", HASH, "2025", 500, HASH, TIME)
ANSWER = LabelAnswer(HALF, "node-1", HASH, 16_384, HASH, HASH, TIME)

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=64)


@given(bank=names, definition=names, period=names, slots=st.integers(1, MOST_SLOTS))
def test_a_question_is_read_as_it_was_written(
    bank: str, definition: str, period: str, slots: int
) -> None:
    told = replace(QUESTION, bank=bank, definition=definition, period=period, slots=slots)
    assert LabelQuestion.parse(decode(encode(told.body()))) == told


@given(node=names, items=st.integers(0, MOST_ITEMS))
def test_an_answer_is_read_as_it_was_written(node: str, items: int) -> None:
    told = replace(ANSWER, node=node, items=items)
    assert LabelAnswer.parse(decode(encode(told.body()))) == told


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2}, {"slots": 0}, {"slots": MOST_SLOTS + 1}, {"slots": "500"}, {"slots": True},
        {"session": "cd" * 15}, {"session": HALF.upper()}, {"points": ""}, {"points": HASH[:-1]},
        {"definition_hash": "zz" * 32}, {"period": "x" * 65}, {"period": None}, {"bank": 1},
        {"time": "2026-11-28"}, {"time": ""}, {"size": 3},
    ],
    ids=str,
)  # fmt: skip
def test_a_question_that_is_none_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DocumentError):
        LabelQuestion.parse({**QUESTION.body(), **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 0}, {"items": -1}, {"items": MOST_ITEMS + 1}, {"items": 1.0}, {"sealed": "ab"},
        {"question": HASH + "00"}, {"session": ""}, {"node": None}, {"outcomes": 3},
    ],
    ids=str,
)  # fmt: skip
def test_an_answer_that_is_none_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DocumentError):
        LabelAnswer.parse({**ANSWER.body(), **changes})


@pytest.mark.parametrize("name", [*QUESTION.body()])
def test_a_question_without_any_of_its_fields_is_refused(name: str) -> None:
    body = QUESTION.body()
    del body[name]
    with pytest.raises(DocumentError):
        LabelQuestion.parse(body)
