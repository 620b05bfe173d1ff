"""What both ends of the Flower transport agree on; Flower itself is not imported here."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Final

from hejin_trust.errors import HejinError

Payload = dict[str, bytes]
"""One message body: a few named byte strings, carried as one Flower ConfigRecord."""

RECORD: Final = "hejin"
"""Name of the one record in a Flower message."""

REQUEST: Final = "request"
"""Reserved payload key: a node's engine echoes the request's key here, so that no two
members' answers are the same content-addressed object; the coordinator's engine takes it out."""

MESSAGE_TYPE: Final = "query.hejin"
"""Flower message type of every request; nodes answer nothing else."""

MAX_PAYLOAD: Final = 32 << 20
"""Most bytes in one payload. Half of what the gRPC channels let through."""

MAX_KEYS: Final = 16
"""Most entries in one payload; the longest message of the protocol has five."""

HEARTBEAT: Final = 10.0
"""Seconds a node promises between heartbeats; Flower calls it offline after two are missed."""


class PayloadError(HejinError):
    """A payload is not a few named byte strings within the limits."""

    code = "payload-refused"


def check_payload(payload: Mapping[str, object]) -> None:
    """Raise PayloadError unless `payload` can travel: str -> bytes, no reserved key, in size."""
    if len(payload) > MAX_KEYS:
        raise PayloadError(
            f"A message has {len(payload)} parts; at most {MAX_KEYS} are allowed.",
            f"一条消息有 {len(payload)} 个部分,最多允许 {MAX_KEYS} 个。",
        )
    size = 0
    for key, value in payload.items():
        if not isinstance(key, str) or not isinstance(value, bytes) or key == REQUEST:
            raise PayloadError(
                "A message must hold named byte strings only, none named "
                f"{REQUEST!r}; rebuild it from documents and vectors.",
                f"消息只能包含命名的字节串,且不得命名为 {REQUEST!r};请由文件与向量重新生成。",
            )
        size += len(key) + len(value)
    if size > MAX_PAYLOAD:
        raise PayloadError(
            f"A message has {size} bytes; at most {MAX_PAYLOAD} are allowed. Use fewer cells.",
            f"一条消息有 {size} 字节,最多允许 {MAX_PAYLOAD} 字节。请减少分箱单元。",
        )


def pack(parts: Sequence[bytes]) -> bytes:
    """Return byte strings as one, each behind its length (u32 big-endian); "" may be among them."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def unpack(data: bytes, most: int) -> tuple[bytes, ...]:
    """Return the byte strings that `pack` put into `data`; PayloadError for more than `most`."""
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + 4
        end = start + int.from_bytes(data[at:start], "big")
        if end > len(data) or start > len(data) or len(parts) == most:
            raise PayloadError(
                f"A message holds more than {most} parts, or one is cut off; it was ignored.",
                f"一条消息的部分超过 {most} 个或被截断,已忽略。",
            )
        parts.append(data[start:end])
        at = end
    return tuple(parts)


SMALL_OBJECT: Final = 16 << 10
"""Most bytes in a message's outer two objects: a few ids and times."""


def open_objects(contents: Sequence[bytes], ids: Sequence[str]) -> Payload:
    """Return the payload in one Flower message, taken apart into its objects.

    contents   Message, RecordDict and ConfigRecord, each as `TYPE CHILD-IDS LENGTH NUL BODY`
    ids        their object ids: lower-case hex SHA-256 of each
    raises     PayloadError for any other shape

    Flower's own reader would build what the bytes ask for: arrays, millions of list entries.
    This one reads no more than named byte strings and costs no more memory than they have.
    Format: flwr 1.41, supercore/inflatable/inflatable_object.py and recorddict.proto.
    """
    try:
        _check_ids(contents, ids)
        _body(contents[0], "Message", ids[1], SMALL_OBJECT)
        _check_names(_body(contents[1], "RecordDict", ids[2], SMALL_OBJECT), ids[2])
        return _entries(_body(contents[2], "ConfigRecord", "", MAX_PAYLOAD + SMALL_OBJECT))
    except (ValueError, IndexError, RecursionError) as reason:
        raise PayloadError(
            "A message is not one record of named byte strings; it was ignored.",
            "一条消息不是由命名字节串组成的单一记录,已忽略。",
        ) from reason


def _check_names(body: bytes, record: str) -> None:
    if json.loads(body) != {RECORD: record}:
        raise ValueError("not one record")


def _check_ids(contents: Sequence[bytes], ids: Sequence[str]) -> None:
    if len(contents) != 3 or len(ids) != 3:
        raise ValueError("not three objects")
    for content, expected in zip(contents, ids, strict=True):
        if hashlib.sha256(content).hexdigest() != expected:
            raise ValueError("an object is not what its id says")


def _body(content: bytes, kind: str, child: str, most: int) -> bytes:
    """Return the body of an object of one kind with exactly this child ("" for none)."""
    if len(content) > most:
        raise ValueError("an object is too large")
    head, nul, body = content.partition(b"\0")
    if not nul or head.decode("ascii").split(" ") != [kind, child, str(len(body))]:
        raise ValueError("an object is not of the expected kind")
    return body


def _entries(body: bytes) -> Payload:
    """Read `repeated Item items = 1`, Item {string key = 1; ConfigRecordValue value = 2}."""
    payload: Payload = {}
    at = 0
    while at < len(body):
        start, at = _field(body, at, 1)
        key_start, key_end = _field(body, start, 1)
        value_start, value_end = _field(body, key_end, 2)
        bytes_start, bytes_end = _field(body, value_start, 6)
        if not at == value_end == bytes_end or len(payload) == MAX_KEYS + 1:
            raise ValueError("an entry is not one byte string")
        key = body[key_start:key_end].decode("ascii")
        if key in payload:
            raise ValueError("an entry is there twice")
        payload[key] = body[bytes_start:bytes_end]
    return payload


def _field(body: bytes, at: int, number: int) -> tuple[int, int]:
    """Return (start, end) of the length-delimited protobuf field `number` at `at`."""
    if body[at] != number << 3 | 2:
        raise ValueError("not the expected field")
    length, shift, at = 0, 0, at + 1
    while True:
        length |= (body[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if body[at - 1] < 0x80:
            break
        if shift > 28:
            raise ValueError("a length is too long")
    if at + length > len(body):
        raise ValueError("a field is cut off")
    return at, at + length


_API_ERROR = re.compile(r"\[(ApiError:\d+|UnexpectedError:\w+)\]")


class _Retold(logging.Handler):
    """Retells Flower's records without their text: it holds public keys and message ids."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._log = logging.getLogger("hejin.flower")

    def emit(self, record: logging.LogRecord) -> None:
        found = _API_ERROR.search(str(record.msg))
        # A peer can provoke Flower's errors at will, so they are our warnings.
        self._log.warning(
            "Flower: %s in %s.%s line %d%s",
            record.levelname.lower(),
            record.module,
            record.funcName,
            record.lineno,
            f" ({found[1]})" if found else "",
        )


def quiet_flower() -> None:
    """Let the `flwr` logger speak through `hejin.flower` alone: warnings, and no values.

    Call after importing flwr, which adds a console handler when it is imported.
    """
    flower = logging.getLogger("flwr")
    flower.handlers = [_Retold()]
    flower.setLevel(logging.WARNING)
    flower.propagate = False
