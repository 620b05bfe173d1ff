"""What a member keeps encrypted on its own disk: AES-256-GCM (NIST SP 800-38D), random nonces."""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hejin_trust.errors import HejinError

_NONCE_BYTES: Final = 12


class NotOpenedError(HejinError):
    """What is kept encrypted is damaged, of another purpose, or under another key."""

    code = "not-opened"

    def __init__(self) -> None:
        super().__init__(
            "what is kept encrypted does not open with this member's key: put back the folder keys"
            " and the database from one backup",
            "加密保存的内容无法以本成员的密钥打开：请从同一份备份恢复 keys 目录与数据库",
        )


def encrypted(key: bytes, data: bytes, purpose: bytes) -> bytes:
    """Return data as only `decrypted` gives it back, with the same key and purpose.

    key      32 bytes
    purpose  what the data are and of what; it is authenticated and not kept
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, data, purpose)


def decrypted(key: bytes, kept: bytes, purpose: bytes) -> bytes:
    """Return the data again; raises NotOpenedError."""
    try:
        return AESGCM(key).decrypt(kept[:_NONCE_BYTES], kept[_NONCE_BYTES:], purpose)
    except (InvalidTag, ValueError) as reason:  # ValueError: cut off within the nonce
        raise NotOpenedError from reason
