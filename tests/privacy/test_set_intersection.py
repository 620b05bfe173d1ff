"""The private set intersection: RFC 9496's vectors, plain intersections, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hejin_models.uscc import make_code
from hejin_privacy import set_intersection
from hejin_privacy.set_intersection import (
    ITEM_BYTES,
    MOST_ITEMS,
    MOST_SLOTS,
    POINT_BYTES,
    TAG_BYTES,
    Answer,
    Asking,
    IntersectionError,
    PointError,
    _mapped,
    _times,
    answer,
    ask,
    hashed,
    open_answer,
)

# RFC 9496, appendix A; the file names what each group is.
VECTORS = json.loads((Path(__file__).parent / "vectors" / "ristretto255.json").read_text())
REJECTED = [
    pytest.param(bytes.fromhex(text), id=f"{kind}-{number}")
    for kind, texts in VECTORS["rejected"].items()
    for number, text in enumerate(texts)
]
IDENTITY = bytes(32)
GENERATOR = bytes.fromhex(VECTORS["multiples"][1])
CONTEXT = hashlib.sha256(b"a session").digest()
ORDER = 2**252 + 27742317777372353535851937790883648493  # RFC 9496 section 4.4


def met(members: list[str], held: dict[str, int], slots: int, size: int) -> dict[str, int]:
    asking = ask(members, slots)
    given = answer(asking.question(), slots, held, size, CONTEXT)
    return open_answer(asking, given, size, CONTEXT)


@pytest.mark.parametrize("number", range(1, 16))
def test_multiples_of_the_generator_are_those_of_the_rfc(number: int) -> None:
    assert _times(number.to_bytes(32, "little"), GENERATOR).hex() == VECTORS["multiples"][number]


@pytest.mark.parametrize(("label", "encoding"), VECTORS["mapped"].items())
def test_the_one_way_map_gives_the_rfc_s_elements(label: str, encoding: str) -> None:
    assert _mapped(hashlib.sha512(label.encode()).digest()).hex() == encoding


@pytest.mark.parametrize("point", [*REJECTED, pytest.param(IDENTITY, id="identity")])
def test_what_the_rfc_rejects_and_the_identity_are_refused_on_either_side(point: bytes) -> None:
    asking = ask([make_code(1), make_code(2)], 3)
    question = asking.question()
    bent = question[:POINT_BYTES] + point + question[2 * POINT_BYTES :]
    with pytest.raises(PointError, match="point 1 ") as refused:
        answer(bent, 3, {}, 1, CONTEXT)
    assert refused.value.code == "point-refused"
    good = answer(question, 3, {}, 1, CONTEXT)
    bent = good.points[: 2 * POINT_BYTES] + point
    with pytest.raises(PointError, match="point 2 "):
        open_answer(asking, Answer(bent, good.items), 1, CONTEXT)


def test_a_member_s_element_is_that_of_its_hash_under_this_protocol_s_name() -> None:
    told = b"hejin/set-intersection/v1/member\x00" + b"91110000710925243K"
    assert hashed("91110000710925243K") == _mapped(hashlib.sha512(told).digest())


codes = st.integers(0, 60).map(make_code)


@settings(deadline=None, max_examples=60)
@given(st.sets(codes, max_size=12), st.dictionaries(codes, st.integers(0, 255), max_size=12),
       st.integers(0, 6), st.integers(0, 6))  # fmt: skip
def test_the_asker_learns_the_values_of_the_plain_intersection_and_nothing_else(
    members: set[str], held: dict[str, int], empty: int, noise: int
) -> None:
    found = met(sorted(members), held, max(1, len(members) + empty), len(held) + noise)
    assert found == {code: held[code] for code in members & held.keys()}


def test_nobody_in_common_nobody_asked_for_and_nobody_held_are_empty_answers() -> None:
    assert met([make_code(1)], {make_code(2): 1}, 1, 1) == {}
    assert met([], {make_code(2): 1}, 4, 1) == {}
    assert met([make_code(1)], {}, 2, 0) == {}


def test_a_session_s_secrets_redo_its_question_and_no_two_sessions_share_a_byte_string() -> None:
    members = [make_code(n) for n in range(5)]
    first, second = ask(members, 9), ask(members, 9)
    again = Asking(first.scalar, first.seed, first.slots)
    assert again.question() == first.question()
    assert [again.salt(n) for n in range(9)] == [first.salt(n) for n in range(9)]
    points = [first.question()[n * 32 : n * 32 + 32] for n in range(9)]
    points += [second.question()[n * 32 : n * 32 + 32] for n in range(9)]
    assert len(set(points)) == 18
    assert len({first.salt(n) for n in range(9)} | {second.salt(n) for n in range(9)}) == 18


def test_the_question_is_the_members_times_the_scalar_by_arithmetic_that_is_not_the_library_s() -> (
    None
):
    # (a * s) G = a (s G): the scalars are multiplied here.
    asking = ask([make_code(1)], 1)
    scalar = int.from_bytes(asking.scalar, "little")
    assert 0 < scalar < ORDER
    for factor in (2, 3, 12345):
        product = (scalar * factor % ORDER).to_bytes(32, "little")
        inner = _times(factor.to_bytes(32, "little"), GENERATOR)
        assert _times(asking.scalar, inner) == _times(product, GENERATOR)
    assert asking.question() == _times(asking.scalar, hashed(make_code(1)))


def test_sizes_depend_on_what_was_declared_and_on_nothing_else() -> None:
    for members, held in ((0, 0), (1, 7), (5, 5), (5, 0)):
        asking = ask([make_code(n) for n in range(members)], 5)
        given = answer(asking.question(), 5, {make_code(n): 1 for n in range(held)}, 7, CONTEXT)
        sizes = (len(asking.question()), len(given.points), len(given.items))
        assert sizes == (5 * POINT_BYTES, 5 * POINT_BYTES, 7 * ITEM_BYTES)


def test_a_holder_does_as_much_for_few_members_as_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the time that an answer takes would tell how many it holds."""
    done: Counter[str] = Counter()
    honest_times, honest_map = set_intersection._times, set_intersection._mapped

    def times(scalar: bytes, point: bytes) -> bytes:
        done["times"] += 1
        return honest_times(scalar, point)

    def mapped(uniform: bytes) -> bytes:
        done["mapped"] += 1
        return honest_map(uniform)

    question = ask([], 3).question()
    monkeypatch.setattr(set_intersection, "_times", times)
    monkeypatch.setattr(set_intersection, "_mapped", mapped)
    for held in ({}, {make_code(1): 1}, {make_code(n): 0 for n in range(8)}):
        done.clear()
        answer(question, 3, held, 8, CONTEXT)
        assert done == {"times": 3 + 8, "mapped": 8}


def test_neither_slots_nor_items_stand_in_an_order_that_says_anything() -> None:
    # Each of 3 members stands in each of 6 places about 50 times in 300: 15 is five sigma below.
    members = [make_code(n) for n in range(3)]
    places = Counter((code, ask(members, 6).slots.index(code))
                     for _ in range(300) for code in members)  # fmt: skip
    assert len(places) == 18
    assert min(places.values()) > 15
    asking = ask(members, 3)
    held = {members[0]: 0, members[1]: 1}
    first = Counter[int]()
    for _ in range(100):
        given = answer(asking.question(), 3, held, 2, CONTEXT)
        alone = Answer(given.points, given.items[:ITEM_BYTES])
        first.update(open_answer(asking, alone, 1, CONTEXT).values())
    assert min(first[0], first[1]) > 20  # fair: 50; 20 is six sigma below


def test_the_holder_s_scalar_is_new_for_each_answer() -> None:
    asking = ask([make_code(1)], 1)
    held = {make_code(1): 1}
    first, second = (answer(asking.question(), 1, held, 1, CONTEXT) for _ in range(2))
    assert first.points != second.points
    assert first.items != second.items
    assert open_answer(asking, Answer(first.points, second.items), 1, CONTEXT) == {}


def test_an_answer_of_another_session_says_nothing() -> None:
    asking = ask([make_code(1)], 1)
    given = answer(asking.question(), 1, {make_code(1): 1}, 1, CONTEXT)
    assert open_answer(asking, given, 1, hashlib.sha256(b"another").digest()) == {}


def test_an_item_that_was_changed_under_its_tag_has_no_value_and_is_no_error() -> None:
    """A session that failed for it would tell the holder that the asker has that member."""
    members = [make_code(1), make_code(2)]
    asking = ask(members, 3)
    given = answer(asking.question(), 3, dict.fromkeys(members, 1), 2, CONTEXT)
    changed = bytearray(given.items)
    changed[TAG_BYTES] ^= 1
    found = open_answer(asking, Answer(given.points, bytes(changed)), 2, CONTEXT)
    assert found.keys() == set(members)
    assert set(found.values()) == {1, None}


def test_other_sizes_than_declared_are_refused_before_anything_is_computed() -> None:
    asking = ask([make_code(1)], 2)
    question = asking.question()
    for bent in (b"", question[:-1], question[:32], question + bytes(32)):
        with pytest.raises(IntersectionError, match="64 were declared") as refused:
            answer(bent, 2, {}, 1, CONTEXT)
        assert refused.value.code == "intersection-refused"
    for slots in (0, -1, MOST_SLOTS + 1):
        with pytest.raises(IntersectionError):
            answer(b"", slots, {}, 1, CONTEXT)
        with pytest.raises(IntersectionError, match="do not fit"):
            ask([], slots)
    with pytest.raises(IntersectionError, match="2 members do not fit into 1 slots"):
        ask([make_code(1), make_code(2)], 1)
    with pytest.raises(IntersectionError, match="declare a larger size"):
        answer(question, 2, {make_code(1): 1, make_code(2): 0}, 1, CONTEXT)
    with pytest.raises(IntersectionError, match="declare a larger size"):
        answer(question, 2, {}, MOST_ITEMS + 1, CONTEXT)
    given = answer(question, 2, {}, 3, CONTEXT)
    for points, items in (
        (given.points[:-1], given.items),
        (given.points, given.items[:-1]),
        (given.points, given.items + bytes(ITEM_BYTES)),
    ):
        with pytest.raises(IntersectionError, match="were declared"):
            open_answer(asking, Answer(points, items), 3, CONTEXT)
