"""The body of a Flower message is read without Flower, and nothing else passes for one."""

from __future__ import annotations

import hashlib
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_trust.fleet import (
    MAX_KEYS,
    MAX_PAYLOAD,
    RECORD,
    REQUEST,
    Payload,
    PayloadError,
    check_payload,
    open_objects,
    quiet_flower,
)


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def part(field: int, value: bytes) -> bytes:
    """One length-delimited protobuf field, after the encoding guide at protobuf.dev."""
    return bytes([field << 3 | 2]) + varint(len(value)) + value


def record(payload: Payload) -> bytes:
    return b"".join(
        part(1, part(1, key.encode()) + part(2, part(6, value))) for key, value in payload.items()
    )


def wrap(kind: str, child: str, body: bytes) -> bytes:
    return f"{kind} {child} {len(body)}\0".encode() + body


def objects(body: bytes, *, name: str = RECORD, kind: str = "ConfigRecord") -> list[bytes]:
    leaf = wrap(kind, "", body)
    middle = wrap("RecordDict", sha(leaf), json.dumps({name: sha(leaf)}).encode())
    return [wrap("Message", sha(middle), b"head"), middle, leaf]


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def ids(contents: list[bytes]) -> list[str]:
    return [sha(content) for content in contents]


@given(
    payload=st.dictionaries(
        st.text("abcdefghijkl-", max_size=8), st.binary(max_size=300), max_size=MAX_KEYS
    )
)
def test_a_payload_comes_out_as_it_went_in(payload: Payload) -> None:
    contents = objects(record(payload))
    assert open_objects(contents, ids(contents)) == payload


@given(body=st.binary(max_size=60))
def test_any_other_record_body_is_refused_or_is_exactly_its_entries(body: bytes) -> None:
    contents = objects(body)
    try:
        payload = open_objects(contents, ids(contents))
    except PayloadError:
        return
    assert sum(len(k) + len(v) for k, v in payload.items()) <= len(body)


LIST_OF_BYTES = part(1, part(1, b"k") + part(2, bytes([26 << 3 & 0x7F | 0x82, 1, 0])))
TEXT = part(1, part(1, b"k") + part(2, part(5, b"v")))
TWICE = record({"k": b"1"}) * 2
TRAILING = record({"k": b"1"}) + b"\0"
CUT = record({"k": b"12345"})[:-1]
MANY = record({str(i): b"" for i in range(MAX_KEYS + 2)})


@pytest.mark.parametrize(
    "contents",
    [
        pytest.param(objects(LIST_OF_BYTES), id="a-list"),
        pytest.param(objects(TEXT), id="a-text-value"),
        pytest.param(objects(TWICE), id="one-name-twice"),
        pytest.param(objects(TRAILING), id="bytes-after-the-end"),
        pytest.param(objects(CUT), id="cut-off"),
        pytest.param(objects(MANY), id="too-many-entries"),
        pytest.param(objects(b"\x0a\xff\xff\xff\xff\xff\xff"), id="endless-length"),
        pytest.param(objects(b"", name="other"), id="another-record-name"),
        pytest.param(objects(b"", kind="ArrayRecord"), id="an-array-record"),
        pytest.param(objects(b"")[1:], id="two-objects"),
        pytest.param([b"", b"", b""], id="empty-objects"),
        pytest.param(
            [*objects(b"")[:1], wrap("RecordDict", sha(b"x"), b"[" * 9000), b"x"], id="deep-json"
        ),
    ],
)
def test_another_shape_is_refused(contents: list[bytes]) -> None:
    with pytest.raises(PayloadError):
        open_objects(contents, ids(contents))


def test_an_object_that_is_not_what_its_id_says_is_refused() -> None:
    contents = objects(record({"k": b"1"}))
    with pytest.raises(PayloadError):
        open_objects(contents, [*ids(contents)[:2], sha(b"other")])


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({"k": "text"}, id="text"),
        pytest.param({REQUEST: b""}, id="the-reserved-name"),
        pytest.param({str(i): b"" for i in range(MAX_KEYS + 1)}, id="too-many"),
        pytest.param({"k": bytes(MAX_PAYLOAD)}, id="too-large"),
    ],
)
def test_a_payload_that_cannot_travel_is_refused(payload: dict[str, object]) -> None:
    with pytest.raises(PayloadError):
        check_payload(payload)


def test_flower_speaks_as_warnings_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    quiet_flower()
    with caplog.at_level(logging.DEBUG):
        log = logging.getLogger("flwr")
        log.info("[Fleet.ActivateNode] Activated node_id=%s", 12345)
        log.error("[/flwr.proto.Fleet/RegisterNode][ApiError:23] public key: b'SECRET'")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "ApiError:23" in caplog.text
    assert "SECRET" not in caplog.text
    assert "12345" not in caplog.text
