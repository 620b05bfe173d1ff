"""Private keys on disk and in use: Ed25519 for documents and logs, P-256 for TLS."""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hejin_trust.errors import HejinError

# Points of order 1, 2, 4 and 8 and their non-canonical spellings, sign bit cleared: under such a
# "public key" a signature fits messages that were never signed (Chalkias et al. 2020,
# "Taming the many EdDSAs", IACR ePrint 2020/1244, table 1).
_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(point)
    for point in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)


SECRET_BYTES: Final = 32
"""Of a key that encrypts or makes pseudonyms."""


class KeyFileError(HejinError):
    """A key cannot be read, stored or used."""

    code = "bad-key"


class SignatureError(HejinError):
    """A signature does not belong to the message and key."""

    code = "bad-signature"


def write_private(path: Path, data: bytes) -> None:
    """Store secret bytes durably in a new file of mode 0600.

    raises   KeyFileError if the file exists (a key is never overwritten) or cannot be written
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as reason:
        raise KeyFileError(
            f"{path} already holds a key and is never overwritten; choose another folder",
            f"{path} 已存有密钥，绝不覆盖；请换一个目录",
        ) from reason
    except OSError as reason:
        raise KeyFileError(
            f"the key cannot be stored at {path} ({reason.strerror}); check the folder",
            f"无法将密钥写入 {path}（{reason.strerror}）；请检查目录",
        ) from reason
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_private(path: Path) -> bytes:
    """Return the secret bytes at `path`.

    raises   KeyFileError if it is missing, or readable by group or others
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        with os.fdopen(handle, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read()
    except OSError as reason:
        raise KeyFileError(
            f"the key at {path} cannot be read ({reason.strerror}); put back your copy of it",
            f"无法读取 {path} 处的密钥（{reason.strerror}）；请放回您保存的副本",
        ) from reason
    if mode & 0o077:
        raise KeyFileError(
            f"the key at {path} can be read by other users (mode {mode:04o}); run chmod 600 on it",
            f"{path} 处的密钥可被其他用户读取（权限 {mode:04o}）；请执行 chmod 600",
        )
    return data


def read_secret(path: Path) -> bytes:
    """Return the secret key at `path`, SECRET_BYTES long; raises KeyFileError."""
    key = read_private(path)
    if len(key) != SECRET_BYTES:
        raise KeyFileError(
            f"the key at {path} has {len(key)} bytes, {SECRET_BYTES} are right; put back your"
            " copy of it",
            f"{path} 处的密钥为 {len(key)} 字节，应为 {SECRET_BYTES} 字节；请放回您保存的副本",
        )
    return key


class SigningKey:
    """An Ed25519 private key (RFC 8032) that signs documents or log checkpoints."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public: bytes = key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        """Show the public half only."""
        return f"SigningKey(public={self.public.hex()})"

    @classmethod
    def generate(cls) -> SigningKey:
        """Return a new random key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """Return the key of a 32-byte seed: for published test vectors."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Return the key that `save` stored; raises KeyFileError."""
        data = read_private(path)
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as reason:
            raise _not_a_key(path, "Ed25519") from reason
        if not isinstance(key, Ed25519PrivateKey):
            raise _not_a_key(path, "Ed25519")
        return cls(key)

    def save(self, path: Path) -> None:
        """Store the key as PKCS #8 PEM in a new file of mode 0600; raises KeyFileError."""
        write_private(path, _pem(self._key))

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`."""
        return self._key.sign(message)


def check_public(public: bytes) -> None:
    """Raise KeyFileError unless `public` can serve as an Ed25519 public key.

    public   32 bytes, not a point of small order
    """
    if len(public) != 32 or public[:31] + bytes([public[31] & 0x7F]) in _SMALL_ORDER:
        raise KeyFileError(
            f"a public key of {len(public)} bytes is not a usable Ed25519 key; make a new key",
            f"{len(public)} 字节的公钥不是可用的 Ed25519 公钥；请重新生成密钥",
        )


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Raise SignatureError unless `signature` is that of `message` by Ed25519 key `public`.

    public      32 bytes
    signature   64 bytes, RFC 8032 section 5.1.7
    """
    try:
        _public_key(public).verify(signature, message)
    except (InvalidSignature, ValueError) as reason:
        raise SignatureError(
            "the signature does not fit the document and the signer's key; "
            "ask the signer to send it again",
            "签名与文件或签名者的密钥不符；请签名者重新发送",
        ) from reason


@lru_cache(maxsize=256)
def _public_key(public: bytes) -> Ed25519PublicKey:
    """Return the key of 32 bytes; whoever reads a ledger needs the same few all the time."""
    return Ed25519PublicKey.from_public_bytes(public)


def new_tls_key() -> bytes:
    """Return a new P-256 private key as PKCS #8 PEM (grpcio refuses Ed25519 for TLS)."""
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def load_tls_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 private key in `pem`; raises KeyFileError."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as reason:
        raise _not_a_key(None, "P-256") from reason
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _not_a_key(None, "P-256")
    return key


def _pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _not_a_key(path: Path | None, kind: str) -> KeyFileError:
    where = "" if path is None else f" at {path}"
    return KeyFileError(
        f"what is stored{where} is not a private {kind} key; put back your copy of it",
        f"存储的内容{where}不是 {kind} 私钥；请放回您保存的副本",
    )
