"""One log of an export, written as a stream: real entries, hashes, signatures and cosignatures."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from hejin_trust.canonical import encode
from hejin_trust.checkpoint import sign_checkpoint
from hejin_trust.cosignature import cosign
from hejin_trust.entries import SALT_BYTES, Body, build
from hejin_trust.export import WITNESS_FOLDER, LogName
from hejin_trust.keys import SigningKey
from hejin_trust.merkle import Frontier, leaf_hash


class Book:
    """A growing log of which only the tree's right edge is held in memory."""

    def __init__(
        self, folder: Path, member: str, log: LogName, origin: str, key: SigningKey
    ) -> None:
        """Begin DIR/`member`/`log`.jsonl and DIR/witness/`member`.`log`.jsonl; `key` signs."""
        self._origin, self._by, self._key = origin, member, key
        self._end = folder / member / f"{log}.checkpoint"
        self._tree, self._noted, self._note, self._cosigned = Frontier(), -1, "", -1
        self.signatures = 0
        self._files = ExitStack()
        self._leaves, self._notes = (
            self._files.enter_context(path.open("wb"))
            for path in (
                folder / member / f"{log}.jsonl",
                folder / WITNESS_FOLDER / f"{member}.{log}.jsonl",
            )
        )

    @property
    def size(self) -> int:
        """The number of entries."""
        return self._tree.size

    def root(self) -> bytes:
        """Return the root of all entries."""
        return self._tree.root()

    def append(self, kind: str, body: Body, at: datetime) -> int:
        """Write an entry; return its index."""
        seq = self._tree.size
        raw = build(kind, seq, at, self._by, body, secrets.token_bytes(SALT_BYTES)).raw
        self._tree.append(leaf_hash(raw))
        self._leaves.write(raw + b"\n")
        return seq

    def note(self) -> str:
        """Return the signed note over all entries; made once a size."""
        if self._noted != self.size:
            self._note = sign_checkpoint(self._origin, self.size, self.root(), self._key)
            self._noted = self.size
            self.signatures += 1
        return self._note

    def witness(self, name: str, key: SigningKey, at: datetime) -> None:
        """Let the witness `name` cosign what is new, if anything is."""
        if self._cosigned != self.size:
            note = self.note()
            self._notes.write(encode(note + cosign(note, name, key, at)) + b"\n")
            self._cosigned = self.size
            self.signatures += 1

    def close(self) -> None:
        """Write the checkpoint over all that was written."""
        self._end.write_text(self.note())
        self._files.close()
