"""Canonical documents: RFC 8785 vectors, strict reading, and every refusal."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from hejin_trust import canonical
from hejin_trust.canonical import DocumentError

# github.com/cyberphone/json-canonicalization (the RFC's author), testdata/input and /output,
# those without floats and null: weird, french, unicode; and structures with 56.0 read as 56.
# The key order of `weird` is also RFC 8785 section 3.2.3.
VECTORS = [
    pytest.param(
        '{"\\u20ac":"Euro Sign","\\r":"Carriage Return",'
        '"\\ufb33":"Hebrew Letter Dalet With Dagesh",'
        '"1":"One","\\ud83d\\ude00":"Emoji: Grinning Face","\\u0080":"Control",'
        '"\\u00f6":"Latin Small Letter O With Diaeresis","\\n":"Newline",'
        '"</script>":"Browser Challenge"}',
        '{"\\n":"Newline","\\r":"Carriage Return","1":"One","</script>":"Browser Challenge",'
        '"\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis","\u20ac":"Euro Sign",'
        '"\U0001f600":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}',
        id="weird",
    ),
    pytest.param(
        '{"peach":"This sorting order","p\u00e9ch\u00e9":"is wrong according to French",'
        '"p\u00eache":"but canonicalization MUST","sin":"ignore locale"}',
        '{"peach":"This sorting order","p\u00e9ch\u00e9":"is wrong according to French",'
        '"p\u00eache":"but canonicalization MUST","sin":"ignore locale"}',
        id="french",
    ),
    pytest.param(
        '{"Unnormalized Unicode":"A\\u030a"}', '{"Unnormalized Unicode":"A\u030a"}', id="unicode"
    ),
    pytest.param(
        '{"1":{"f":{"f":"hi","F":5},"\\n":56},"10":{},"":"empty","a":{},"111":[{"e":"yes","E":"no"}],"A":{}}',
        '{"":"empty","1":{"\\n":56,"f":{"F":5,"f":"hi"}},"10":{},"111":[{"E":"no","e":"yes"}],"A":{},"a":{}}',
        id="structures",
    ),
]


@pytest.mark.parametrize(("source", "expected"), VECTORS)
def test_published_documents_have_their_published_form(source: str, expected: str) -> None:
    data = canonical.encode(json.loads(source))
    assert data == expected.encode()
    assert canonical.decode(data) == json.loads(source)


# RFC 8785 section 3.2.2.2: the only escapes.
def test_strings_are_escaped_as_the_rfc_says() -> None:
    value = {"a": '\u20ac$\x0f\nA\'B"\\\\"/'}
    assert canonical.encode(value) == b'{"a":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'


scalars = st.text() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)


def _slow(value: object) -> str:
    """Return RFC 8785 text by its definition: keys sorted as UTF-16 code units."""
    if isinstance(value, dict):
        order = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(f"{_slow(key)}:{_slow(value[key])}" for key in order) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_slow, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@given(body=st.dictionaries(st.text(), values))
def test_encoding_agrees_with_the_library_and_the_definition_and_reads_back(
    body: dict[str, object],
) -> None:
    data = canonical.encode(body)
    assert data == rfc8785.dumps(body)  # type: ignore[arg-type]
    assert data.decode() == _slow(body)
    assert canonical.decode(data, max_depth=64) == body


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        None,
        2**53,
        -(2**53),
        {1: "a"},
        b"bytes",
        Fraction(1, 2),
        "\ud800",
        {"\ud800": "a"},
        {"é": "\ud800"},
        {"a": [{"b": 0.5}]},
    ],
    ids=repr,
)
def test_what_json_readers_disagree_on_is_never_written(value: object) -> None:
    with pytest.raises(DocumentError):
        canonical.encode({"x": value})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"a":1,"a":1}', id="duplicate-field"),
        pytest.param(b'{"b":{"a":1,"a":2}}', id="duplicate-field-inside"),
        pytest.param(b'{"a":1.0}', id="float"),
        pytest.param(b'{"a":1e3}', id="exponent"),
        pytest.param(b'{"a":NaN}', id="nan"),
        pytest.param(b'{"a":-Infinity}', id="infinity"),
        pytest.param(b'{"a":null}', id="null"),
        pytest.param(b'{"a":9007199254740992}', id="two-to-53"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="very-long-integer"),
        pytest.param(b'{"a":-0}', id="minus-zero"),
        pytest.param(b'{"a": 1}', id="space"),
        pytest.param(b'{"b":1,"a":1}', id="unsorted"),
        pytest.param(b'{"\\u0061":1}', id="needless-escape"),
        pytest.param(b'{"a":1}\n', id="trailing-newline"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', id="byte-order-mark"),
        pytest.param(b'{"a":"\xff"}', id="not-utf-8"),
        pytest.param(b'{"a":"\\ud800"}', id="lone-surrogate"),
        pytest.param(b"[1]", id="list-at-top"),
        pytest.param(b'"a"', id="string-at-top"),
        pytest.param(b"", id="empty"),
        pytest.param(b'{"a":', id="cut-off"),
        pytest.param(b'{"a":' + b"[" * 16 + b"]" * 16 + b"}", id="17-levels"),
        pytest.param(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="100000-levels"),
        pytest.param(b'{"a":"' + b"x" * (1 << 20) + b'"}', id="over-a-megabyte"),
    ],
)
def test_a_second_spelling_or_a_hostile_document_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        canonical.decode(data)


_SNIPPETS = (
    b"null", b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\u0041", b"\\ud800", b"1.5", b"-0",
    b"1e3", b"NaN", b" ", b"9007199254740991", b"9007199254740992", b"\xe5\x90\x88", b"\xff",
    b'"a":1,', b"[[[[[[[[[[[[[[[[[", b"true", b"01",
)  # fmt: skip


@given(
    body=st.dictionaries(st.text("ab\u5408", max_size=2), values, max_size=3),
    snippet=st.sampled_from(_SNIPPETS),
    start=st.integers(0, 40),
    cut=st.integers(0, 3),
)
def test_an_ordinary_document_is_read_like_every_other_one(
    body: dict[str, object], snippet: bytes, start: int, cut: int
) -> None:
    whole = canonical.encode(body)
    damaged = whole[:start] + snippet + whole[start + cut :]

    def read(data: bytes) -> object:
        try:
            return canonical.decode(data)
        except DocumentError:
            return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "_decode_plain", lambda *_: None)
        slowly = [read(whole), read(damaged)]
    assert [read(whole), read(damaged)] == slowly
    assert slowly[0] == body


def test_sixteen_levels_are_read() -> None:
    data = b'{"a":' + b"[" * 15 + b"1" + b"]" * 15 + b"}"
    assert canonical.encode(canonical.decode(data)) == data


def test_a_refusal_does_not_repeat_the_document() -> None:
    with pytest.raises(DocumentError) as caught:
        canonical.decode(b'{"code":"91130000secret", "x":1}')
    assert "secret" not in caught.value.text.en + caught.value.text.zh


@given(value=st.fractions())
def test_a_rational_survives(value: Fraction) -> None:
    assert canonical.fraction_from(canonical.fraction_body(value)) == value


@pytest.mark.parametrize(
    "body",
    [
        {"num": "2", "den": "4"},
        {"num": "1", "den": "0"},
        {"num": "1", "den": "-2"},
        {"num": "01", "den": "2"},
        {"num": "-0", "den": "1"},
        {"num": "+1", "den": "2"},
        {"num": "1 ", "den": "2"},
        {"num": "\u0661", "den": "2"},
        {"num": "1", "den": "2", "x": "3"},
        {"num": "1"},
        {"num": 1, "den": 2},
        {"num": "1" * 401, "den": "1"},
        "1/2",
    ],
    ids=str,
)
def test_a_rational_has_one_spelling(body: object) -> None:
    with pytest.raises(DocumentError):
        canonical.fraction_from(body)


def test_fields_of_the_wrong_kind_are_refused() -> None:
    body: dict[str, object] = {"t": "x", "i": 3, "b": True, "h": "AB", "o": {}, "l": [1]}
    assert canonical.text(body, "t") == "x"
    assert canonical.integer(body, "i", 0, 3) == 3
    assert canonical.flag(body, "b") is True
    assert canonical.items(body, "l") == [1]
    assert canonical.child(body, "o") == {}
    wrong = [
        lambda: canonical.text(body, "i"),
        lambda: canonical.text(body, "missing"),
        lambda: canonical.text(body, "t", longest=0),
        lambda: canonical.integer(body, "b"),
        lambda: canonical.integer(body, "i", 4, 9),
        lambda: canonical.flag(body, "i"),
        lambda: canonical.hexbytes(body, "h", 1),
        lambda: canonical.hexbytes(body, "h", 2),
        lambda: canonical.items(body, "o"),
        lambda: canonical.child(body, "l"),
        lambda: canonical.texts(body, "l"),
        lambda: canonical.objects(body, "l"),
        lambda: canonical.closed(body, "t", "i", "b", "h", "o"),
        lambda: canonical.closed(body, "t", "i", "b", "h", "o", "l", "more"),
    ]
    for ask in wrong:
        with pytest.raises(DocumentError):
            ask()


def test_times_are_utc_seconds_and_sort_as_text() -> None:
    china = timezone(timedelta(hours=8))
    assert canonical.time_text(datetime(2026, 11, 23, 4, tzinfo=china)) == "2026-11-22T20:00:00Z"
    moment = datetime(2026, 11, 22, 20, tzinfo=UTC)
    assert canonical.time_from("2026-11-22T20:00:00Z") == moment


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_times_of_any_year_sort_as_text(one: datetime, other: datetime) -> None:
    texts = [canonical.time_text(moment) for moment in (one, other)]
    assert [len(value) for value in texts] == [20, 20]
    seconds = [moment.replace(microsecond=0) for moment in (one, other)]
    assert (texts[0] < texts[1]) == (seconds[0] < seconds[1])


@pytest.mark.parametrize(
    "moment", [canonical.EARLIEST, canonical.LATEST - timedelta(seconds=1)], ids=str
)
def test_the_first_and_the_last_time_are_read(moment: datetime) -> None:
    assert canonical.time_from(canonical.time_text(moment)) == moment


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(999, 1, 1, tzinfo=UTC),
        canonical.EARLIEST - timedelta(seconds=1),
        canonical.LATEST,
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
    ids=str,
)
def test_times_near_the_ends_of_the_calendar_are_refused(moment: datetime) -> None:
    with pytest.raises(DocumentError, match="2000 to 9998"):
        canonical.time_from(canonical.time_text(moment))


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-22T20:00:00+00:00",
        "2026-11-22 20:00:00Z",
        "2026-11-22T20:00:00.5Z",
        "2026-02-30T20:00:00Z",
        "2026-11-22T20:00:60Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T20:00:00Z\n",
        "\u0662026-11-22T20:00:00Z",
    ],
)
def test_other_spellings_of_a_time_are_refused(value: str) -> None:
    with pytest.raises(DocumentError):
        canonical.time_field({"time": value}, "time")
