"""What an enterprise signs when it authorises a use of its data (grade A)."""

from __future__ import annotations

from typing import Final

from hejin_trust.canonical import encode
from hejin_trust.entries import Body
from hejin_trust.envelope import AUTHORISATION, pae
from hejin_trust.keys import verify

SIGNATURE_BYTES: Final = 64


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
