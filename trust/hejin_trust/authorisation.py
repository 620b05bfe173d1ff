"""What an authorisation covers, and what an enterprise signs to give one (grade A)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, get_args

from hejin_trust.canonical import encode
from hejin_trust.entries import Body
from hejin_trust.envelope import AUTHORISATION, pae
from hejin_trust.keys import verify

Scope = Literal["purposes", "banks", "categories", "features"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""The lists of a grant."""

ANY: Final = "*"
OUTCOME: Final = "outcome"
"""违约结果: a category of its own, which "*" does not cover. Whose grant names it lets the platform
learn from the bank whether that enterprise defaulted."""

OUTCOME_PURPOSE: Final = "model-training"
"""What outcomes are learnt for: a grant must name it beside OUTCOME."""

SIGNATURE_BYTES: Final = 64

LOST: Final = "lost with the database"
"""Why a recovery revokes a grant: the enterprise did not, and its signature may grant again."""


def covers(scope: Scope, given: Collection[str], wanted: Collection[str]) -> bool:
    """Return whether one list of a grant covers all that is wanted; purposes know no "*"."""
    left = set(wanted).difference(given)
    named = scope == "purposes" or (scope == "categories" and OUTCOME in left)
    return not left or (ANY in given and not named)


def statement_to_sign(origin: str, grant: Body) -> bytes:
    """Return the exact bytes that an enterprise's Ed25519 key signs.

    origin   of the internal log that will hold the grant: it names consortium and node
    grant    body of the `authorisation.grant` entry

    DSSE's PAE of the statement {"v": 1, "log": origin, "grant": body of the entry} in JCS. It names
    the enterprise by its pseudonym and, by the hash `document`, the record with the rest: whoever
    holds the log can verify it.
    """
    return pae(AUTHORISATION, encode({"v": 1, "log": origin, "grant": dict(grant)}))


def check_signature(origin: str, grant: Body, key: bytes, signature: bytes) -> None:
    """Raise SignatureError unless the enterprise with `key` signed exactly this grant.

    key         Ed25519 public key, 32 bytes
    signature   64 bytes
    """
    verify(key, statement_to_sign(origin, grant), signature)
