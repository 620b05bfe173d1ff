"""The public state that a query carries, and its one canonical byte form."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hejin_models.errors import StateError

State = Mapping[str, npt.NDArray[np.float64]]
"""Named one-dimensional float64 arrays, all finite; the empty mapping is a state too."""

MAX_ARRAYS = 8
MAX_LENGTH = 1 << 17
MAX_BYTES = 1 << 21

_MAGIC = b"hejin-state-1\n"
_NAME = re.compile(rb"[a-z][a-z_]{0,30}")
_ENTRY = struct.Struct("<B I")


def encode_state(state: State) -> bytes:
    """Return a state's canonical bytes; raises StateError for what decode_state would refuse.

    Magic, u8 number of arrays; then for each array, by ascending name: u8 length of the
    name, u32 length of the array, the name, float64 values; all little-endian, -0 as 0.
    """
    parts = [_MAGIC, struct.pack("<B", min(len(state), 255))]
    for name in sorted(state):
        values = np.asarray(state[name], dtype="<f8")
        if values.ndim != 1:
            raise StateError(
                f"state array {name} has {values.ndim} dimensions, it must have 1",
                f"状态数组 {name} 有 {values.ndim} 维，应为 1 维",
            )
        raw = name.encode("utf-8")
        parts += [_ENTRY.pack(min(len(raw), 255), values.size), raw, (values + 0.0).tobytes()]
    data = b"".join(parts)
    _parse(data)
    return data


def decode_state(data: bytes) -> State:
    """Return the state in bytes that came from a peer; raises StateError."""
    state = _parse(data)
    if encode_state(state) != data:
        raise StateError("the state is not in canonical form", "状态不是规范编码")
    return state


def state_digest(data: bytes) -> str:
    """Return the hex SHA-256 of a state's canonical bytes, as queries and ledgers name it."""
    return hashlib.sha256(data).hexdigest()


def _parse(data: bytes) -> dict[str, npt.NDArray[np.float64]]:
    if len(data) > MAX_BYTES:
        raise StateError(
            f"the state has {len(data)} bytes, at most {MAX_BYTES} are allowed",
            f"状态有 {len(data)} 字节，最多允许 {MAX_BYTES}",
        )
    if not data.startswith(_MAGIC) or len(data) <= len(_MAGIC):
        raise StateError("the state is not a hejin-state-1", "状态不是 hejin-state-1 格式")
    count, position = data[len(_MAGIC)], len(_MAGIC) + 1
    if count > MAX_ARRAYS:
        raise StateError(
            f"the state has {count} arrays, at most {MAX_ARRAYS} are allowed",
            f"状态有 {count} 个数组，最多允许 {MAX_ARRAYS}",
        )
    state: dict[str, npt.NDArray[np.float64]] = {}
    for _ in range(count):
        name, values, position = _array(data, position)
        if name in state:
            raise StateError(f"state array {name} is there twice", f"状态数组 {name} 重复")
        state[name] = values
    if position != len(data):
        raise StateError(
            f"{len(data) - position} bytes follow the state",
            f"状态之后多出 {len(data) - position} 字节",
        )
    return state


def _array(data: bytes, position: int) -> tuple[str, npt.NDArray[np.float64], int]:
    cut = StateError("the state is cut short", "状态数据不完整")
    if position + _ENTRY.size > len(data):
        raise cut
    name_length, length = _ENTRY.unpack_from(data, position)
    position += _ENTRY.size
    raw = data[position : position + name_length]
    if not _NAME.fullmatch(raw):
        raise StateError("a state array has a malformed name", "状态数组名称格式错误")
    name = raw.decode("ascii")
    if length > MAX_LENGTH:
        raise StateError(
            f"state array {name} has {length} numbers, at most {MAX_LENGTH} are allowed",
            f"状态数组 {name} 有 {length} 个数，最多允许 {MAX_LENGTH}",
        )
    position += name_length
    end = position + 8 * length
    if end > len(data):
        raise cut
    values = np.frombuffer(data[position:end], dtype="<f8").astype(np.float64)
    if not np.all(np.isfinite(values)):
        raise StateError(
            f"state array {name} has a value that is not finite", f"状态数组 {name} 含非有限数值"
        )
    values.flags.writeable = False
    return name, values, end
