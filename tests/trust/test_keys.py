"""Keys: RFC 8032 vectors, files only their owner can read, no key under which anything verifies."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from hejin_trust.keys import (
    KeyFileError,
    SignatureError,
    SigningKey,
    check_public,
    load_tls_key,
    new_tls_key,
    read_private,
    read_secret,
    verify,
    write_private,
)

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


# RFC 8032 section 7.1, TEST 1 and TEST 3.
@pytest.mark.parametrize(
    ("seed", "public", "message", "signature"),
    [
        pytest.param(
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e"
            "39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            id="test-1",
        ),
        pytest.param(
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67"
            "f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            id="test-3",
        ),
    ],
)
def test_signatures_are_those_of_rfc_8032(
    seed: str, public: str, message: str, signature: str
) -> None:
    key = SigningKey.from_seed(bytes.fromhex(seed))
    assert key.public.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    verify(key.public, bytes.fromhex(message), bytes.fromhex(signature))


def test_another_message_key_or_signature_is_refused() -> None:
    key = SigningKey.generate()
    signature = key.sign(b"message")
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    for public, message, shown in [
        (key.public, b"messagf", signature),
        (key.public, b"message", flipped),
        (key.public, b"message", signature[:-1]),
        (key.public[:-1], b"message", signature),
        (SigningKey.generate().public, b"message", signature),
    ]:
        with pytest.raises(SignatureError):
            verify(public, message, shown)


def test_a_stored_key_is_readable_by_its_owner_only_and_comes_back(tmp_path: Path) -> None:
    key = SigningKey.generate()
    path = tmp_path / "identity.key"
    key.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.load(path).public == key.public


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    SigningKey.generate().save(path)
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="never overwritten"):
        SigningKey.generate().save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity.key"
    SigningKey.generate().save(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        SigningKey.load(path)


def test_missing_and_foreign_key_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="put back your copy"):
        read_private(tmp_path / "none")
    with pytest.raises(KeyFileError, match="cannot be stored"):
        SigningKey.generate().save(tmp_path / "no-folder" / "key")
    path = tmp_path / "tls.key"
    path.touch(0o600)
    path.write_bytes(new_tls_key())
    with pytest.raises(KeyFileError, match="Ed25519"):
        SigningKey.load(path)
    path.write_bytes(b"noise")
    with pytest.raises(KeyFileError, match="Ed25519"):
        SigningKey.load(path)
    SigningKey.generate().save(tmp_path / "identity.key")
    for pem in (b"noise", (tmp_path / "identity.key").read_bytes()):
        with pytest.raises(KeyFileError, match="P-256"):
            load_tls_key(pem)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_secret_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    write_private(tmp_path / "right", bytes(range(32)))
    assert read_secret(tmp_path / "right") == bytes(range(32))
    write_private(tmp_path / "wrong", bytes(length))
    with pytest.raises(KeyFileError, match=f"has {length} bytes"):
        read_secret(tmp_path / "wrong")


def test_a_key_does_not_show_its_private_half() -> None:
    seed = bytes(range(32))
    assert seed.hex() not in repr(SigningKey.from_seed(seed))


def _add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Return a + b on -x^2 + y^2 = 1 + d x^2 y^2, affine (RFC 8032 section 5.1.4)."""
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P
    return x, y


def _decompress(encoded: bytes) -> tuple[int, int] | None:
    """Return a point with this y, or None if there is none (RFC 8032 section 5.1.3)."""
    y = int.from_bytes(encoded, "little") % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x, y) if x * x % P == square else None


def _order_divides_8(encoded: bytes) -> bool:
    point = _decompress(encoded)
    if point is None:
        return False
    for _ in range(3):
        point = _add(point, point)
    return point == (0, 1)


SMALL = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    P.to_bytes(32, "little"),
    (P + 1).to_bytes(32, "little"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]


@pytest.mark.parametrize("encoded", SMALL, ids=bytes.hex)
def test_a_key_of_small_order_is_refused(encoded: bytes) -> None:
    assert _order_divides_8(encoded)
    for sign in (0, 0x80):
        with pytest.raises(KeyFileError):
            check_public(encoded[:31] + bytes([encoded[31] | sign]))


def test_honest_keys_are_accepted_and_other_lengths_refused() -> None:
    public = SigningKey.generate().public
    assert not _order_divides_8(public)
    check_public(public)
    for length in (0, 31, 33):
        with pytest.raises(KeyFileError):
            check_public(bytes(length))
