"""A witness' timestamped word on a checkpoint: C2SP tlog-cosignature (Ed25519)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from hejin_trust.canonical import EARLIEST, LATEST
from hejin_trust.checkpoint import (
    Checkpoint,
    CheckpointError,
    open_checkpoint,
    signature_lines,
    split_note,
)
from hejin_trust.keys import SignatureError, SigningKey, verify
from hejin_trust.origins import release_origin

_COSIGNATURE = b"\x04"  # c2sp.org/signed-note, signature types
_STAMP_BYTES: Final = 8
_STAMPS: Final = range(int(EARLIEST.timestamp()), int(LATEST.timestamp()))


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint that its log signed and the witness has cosigned.

    note   the signed note with both signatures
    time   when the witness cosigned it, by its own clock, UTC
    """

    checkpoint: Checkpoint
    note: str
    time: datetime


def witness_name(consortium: str, regulator: str) -> str:
    """Return the key name under which the regulator cosigns; its key is its log key."""
    return release_origin(consortium, "regulator", regulator)


def cosigner_id(name: str, public_key: bytes) -> bytes:
    """Return SHA-256(name | 0x0A | 0x04 | Ed25519 public key)[:4]. C2SP tlog-cosignature."""
    return hashlib.sha256(name.encode() + b"\n" + _COSIGNATURE + public_key).digest()[:4]


def cosigner_key(name: str, public_key: bytes) -> str:
    """Return a witness' key as other tools take it: NAME+ID+KEY. C2SP tlog-cosignature."""
    data = base64.b64encode(_COSIGNATURE + public_key).decode()
    return f"{name}+{cosigner_id(name, public_key).hex()}+{data}"


def cosign(note: str, name: str, key: SigningKey, at: datetime) -> str:
    """Return the cosignature line, newline included, for the text of a signed note.

    The caller has checked the note and the consistency of its log.
    """
    text, _ = split_note(note)
    stamp = int(at.timestamp())
    signature = key.sign(_message(text, stamp))
    data = cosigner_id(name, key.public) + stamp.to_bytes(_STAMP_BYTES, "big") + signature
    return f"— {name} {base64.b64encode(data).decode()}\n"


def open_cosigned(
    note: str, origin: str, log_key: bytes, witness: str, witness_key: bytes
) -> Cosigned:
    """Return the tree head of a note that both its log and the witness have signed.

    witness   the witness' key name; witness_key: its Ed25519 key, 32 bytes
    raises    CheckpointError: another log, not signed by its key, or not cosigned by the witness
    """
    checkpoint = open_checkpoint(note, origin, log_key)
    text, tail = split_note(note)
    wanted = cosigner_id(witness, witness_key)
    found = [
        signature
        for name, identity, signature in signature_lines(tail)
        if (name, identity) == (witness, wanted)
    ]
    if len(found) != 1:
        raise _not_cosigned(f"it has {len(found)} cosignatures of {witness}", "会签数不为一")
    stamp = int.from_bytes(found[0][:_STAMP_BYTES], "big")
    if stamp not in _STAMPS:
        raise _not_cosigned("the time of its cosignature has no meaning", "会签时间无效")
    try:
        verify(witness_key, _message(text, stamp), found[0][_STAMP_BYTES:])
    except SignatureError as reason:
        raise _not_cosigned(
            f"its cosignature is not of {witness}", "会签并非监管方所作"
        ) from reason
    return Cosigned(checkpoint, note, datetime.fromtimestamp(stamp, UTC))


def _message(text: str, stamp: int) -> bytes:
    return f"cosignature/v1\ntime {stamp}\n{text}".encode()


def _not_cosigned(en: str, zh: str) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint is refused: {en}. Ask the log's owner for one that the regulator has "
        "cosigned.",
        f"检查点被拒绝：{zh}。请向日志所有者索取监管方见证过的检查点。",
    )
