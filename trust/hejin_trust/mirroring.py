"""What a member and the regulator's mirror tell each other about the member's logs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

MOST_ENTRIES: Final = 2_000
MOST_BYTES: Final = 1 << 20
"""What one message carries of one log: a slow line brings it over before the call ends."""


@dataclass(frozen=True, slots=True)
class LogStanding:
    """How much of one log the mirror holds: `size` entries under `root` (32 bytes; b"" of none)."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class LogUpdate:
    """New entries of one log, and the signed checkpoint over all of them.

    old_size  entries that the mirror holds already
    entries   leaves old_size .. checkpoint size; none where it is to be cosigned again
    proof     RFC 9162 consistency proof between the two sizes
    """

    origin: str
    old_size: int
    entries: Sequence[bytes]
    proof: Sequence[bytes]
    checkpoint: str


def portion(leaves: Iterable[bytes]) -> tuple[tuple[bytes, ...], bool]:
    """Return as many leaves as one message carries, and whether these were all."""
    taken: list[bytes] = []
    left = MOST_BYTES
    for leaf in leaves:
        if taken and (len(taken) == MOST_ENTRIES or len(leaf) > left):
            return tuple(taken), False
        taken.append(leaf)
        left -= len(leaf)
    return tuple(taken), True


class Mirror(Protocol):
    """One member's door to the mirror: a channel to the regulator, or the mirror itself.

    Every method raises PeerRefused with the mirror's code, PeerUnreachable, or the refusal itself.
    """

    def standing(self) -> tuple[LogStanding, ...]:
        """Return what is held of both of the member's logs."""
        ...

    def add(self, updates: Sequence[LogUpdate]) -> tuple[str, ...]:
        """Store the entries of all updates or none; return one cosignature line an update."""
        ...

    def entries(self, origin: str, start: int) -> tuple[bytes, ...]:
        """Return leaves from `start` on, as many as one message holds; none at the end."""
        ...

    def charter_serial(self) -> int:
        """Return the serial of the charter in force as the last answer named it."""
        ...

    def charter(self) -> bytes:
        """Return the signed envelope of the charter in force."""
        ...
