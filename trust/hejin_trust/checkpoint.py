"""Signed tree heads and inclusion proofs as text: C2SP tlog-checkpoint, signed-note, tlog-proof."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from hejin_trust.errors import HejinError
from hejin_trust.keys import SignatureError, SigningKey, verify
from hejin_trust.merkle import HASH_SIZE

MAX_NOTE_BYTES = 64 * 1024
MAX_PROOF_BYTES = 160 * 1024  # a note, and the longest entry in base64 beside it
MAX_SIGNATURES = 64
_ED25519 = b"\x01"  # c2sp.org/signed-note, signature types
PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_NAME = re.compile(r"[^\s+]+")


class CheckpointError(HejinError):
    """A checkpoint or proof text is malformed, of another log, or not signed by its key."""

    code = "checkpoint-invalid"


def _refuse(en: str, zh: str) -> NoReturn:
    raise CheckpointError(
        f"The checkpoint is refused: {en}. Ask the log's owner for a fresh one.",
        f"检查点被拒绝：{zh}。请向日志所有者重新索取。",
    )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says it holds: `size` leaves under the RFC 6962 root `root` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the note text that is signed. C2SP tlog-checkpoint."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def key_id(name: str, public_key: bytes) -> bytes:
    """Return the 4 bytes that tell keys of one name apart. C2SP signed-note.

    SHA-256(name | 0x0A | 0x01 | Ed25519 public key)[:4]
    """
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def verifier_key(name: str, public_key: bytes) -> str:
    """Return a log's key as other tools take it: NAME+ID+KEY. C2SP signed-note, verifier keys."""
    data = base64.b64encode(_ED25519 + public_key).decode()
    return f"{name}+{key_id(name, public_key).hex()}+{data}"


def sign_note(text: str, name: str, key: SigningKey) -> str:
    """Return `text` (ends in a newline) as a signed note with one signature of `key`."""
    if not text.endswith("\n") or not _NAME.fullmatch(name):
        raise ValueError("a note ends in a newline, its key name has no spaces or plus signs")
    signature = key_id(name, key.public) + key.sign(text.encode())
    return f"{text}\n— {name} {base64.b64encode(signature).decode()}\n"


def open_note(note: str, name: str, public_key: bytes) -> str:
    """Return the text of a note that `name` signed with `public_key`.

    Signatures of other names or keys are ignored, so that cosignatures may follow.
    raises  CheckpointError
    """
    text, tail = split_note(note)
    wanted = key_id(name, public_key)
    signatures = [
        signature
        for signer, identity, signature in signature_lines(tail)
        if (signer, identity) == (name, wanted)
    ]
    if len(signatures) != 1:
        _refuse(f"it has {len(signatures)} signatures of {name}", f"{name} 的签名数不为一")
    try:
        verify(public_key, text.encode(), signatures[0])
    except SignatureError as reason:
        raise CheckpointError(
            f"The checkpoint is refused: it is not signed by {name}. "
            "Ask the log's owner for a fresh one.",
            f"检查点被拒绝：不是由 {name} 签名。请向日志所有者重新索取。",
        ) from reason
    return text


def split_note(note: str) -> tuple[str, str]:
    """Return (text, signature lines) of a signed note; CheckpointError if it is none."""
    if len(note.encode()) > MAX_NOTE_BYTES:
        _refuse("it is too long", "过长")
    # The last blank line parts text and signatures: the text may hold blank lines itself.
    head, parted, tail = note.rpartition("\n\n")
    if not parted or not tail.endswith("\n") or re.search(r"[\x00-\x09\x0b-\x1f]", note):
        _refuse("it is not a signed note", "不是签名文本")
    return head + "\n", tail


def signature_lines(tail: str) -> list[tuple[str, bytes, bytes]]:
    """Return (name, key id, signature bytes) of a note's signature lines; CheckpointError."""
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        _refuse(f"it has {len(lines)} signatures", f"有 {len(lines)} 个签名")
    return [_signature(line) for line in lines]


def _signature(line: str) -> tuple[str, bytes, bytes]:
    """Return (name, key id, signature bytes) of one signature line."""
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—" or not _NAME.fullmatch(parts[1]):
        _refuse("a signature line is malformed", "签名行格式有误")
    data = _base64(parts[2])
    if len(data) < 5:
        _refuse("a signature is too short", "签名过短")
    return parts[1], data[:4], data[4:]


def _base64(value: str) -> bytes:
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        _refuse("it holds malformed base64", "base64 格式有误")
    if base64.b64encode(data).decode() != value:
        _refuse("it holds base64 in an unusual spelling", "base64 写法不规范")
    return data


def _hash(value: str) -> bytes:
    data = _base64(value)
    if len(data) != HASH_SIZE:
        _refuse("a hash has not 32 bytes", "哈希不是 32 字节")
    return data


def _number(value: str) -> int:
    if not _NUMBER.fullmatch(value) or int(value) >= 1 << 63:
        _refuse("a number is malformed", "数字格式有误")
    return int(value)


def sign_checkpoint(origin: str, size: int, root: bytes, key: SigningKey) -> str:
    """Return the signed note of a tree head; the key's name is the origin."""
    return sign_note(Checkpoint(origin, size, root).text(), origin, key)


def open_checkpoint(note: str, origin: str, public_key: bytes) -> Checkpoint:
    """Return the tree head in a note that the log `origin` signed; raises CheckpointError."""
    lines = open_note(note, origin, public_key).split("\n")
    if len(lines) < 4 or lines[0] != origin:
        _refuse(f"it is not of the log {origin}", f"不属于日志 {origin}")
    return Checkpoint(origin, _number(lines[1]), _hash(lines[2]))


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """The parts of a tlog-proof: leaf index, path (bottom-up) and the log's signed note.

    extra   what was put beside them; nothing authenticates it
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes = b""


def format_proof(index: int, path: Sequence[bytes], checkpoint: str, extra: bytes = b"") -> str:
    """Return an inclusion proof as text. C2SP tlog-proof."""
    beside = f"extra {base64.b64encode(extra).decode()}\n" if extra else ""
    hashes = "".join(f"{base64.b64encode(item).decode()}\n" for item in path)
    return f"{PROOF_HEADER}\n{beside}index {index}\n{hashes}\n{checkpoint}"


def parse_proof(proof: str) -> InclusionProof:
    """Return the parts of a tlog-proof; nothing is verified yet. Raises CheckpointError."""
    if len(proof) > MAX_PROOF_BYTES:
        _refuse("the proof is too long", "证明过长")
    head, parted, checkpoint = proof.partition("\n\n")
    header, *lines = head.split("\n")
    if not parted or header != PROOF_HEADER:
        _refuse("it is not a tlog-proof", "不是 tlog-proof 证明")
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = _base64(lines.pop(0).removeprefix("extra "))
    if not lines or not lines[0].startswith("index "):
        _refuse("the proof names no index", "证明未给出序号")
    path = tuple(_hash(line) for line in lines[1:])
    return InclusionProof(_number(lines[0].removeprefix("index ")), path, checkpoint, extra)
