"""Published primitives in plain Python integers: slow, short, independent of any library.

Only for tests: nothing here runs in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from functools import cache

P = 2**255 - 19


def _clamped(scalar: bytes) -> int:
    """Return a private scalar: bits 0, 1, 2 and 255 clear, bit 254 set."""
    return int.from_bytes(scalar, "little") & (2**254 - 8) | 2**254


# -- X25519: RFC 7748 section 5 ----------------------------------------------------------


@cache
def x25519(scalar: bytes, point: bytes) -> bytes:
    """Return X25519(k, u): the Montgomery ladder as it is printed in the RFC."""
    k = _clamped(scalar)
    x1 = int.from_bytes(point, "little") & (2**255 - 1)
    x2, z2, x3, z3 = 1, 0, x1, 1
    for t in range(254, -1, -1):
        swap = k >> t & 1
        if swap:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % P, b * b % P, d * a % P, c * b % P
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % P, x1 * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
        if swap:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def x25519_public(scalar: bytes) -> bytes:
    return x25519(scalar, (9).to_bytes(32, "little"))


# -- Ed25519: RFC 8032 section 5.1 -------------------------------------------------------

Point = tuple[int, int]
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
BASE_Y = 4 * pow(5, P - 2, P) % P
BASE: Point = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    BASE_Y,
)


def _plus(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    k = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P
    return x, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def _times(scalar: int) -> Point:
    found, power = (0, 1), BASE
    while scalar:
        if scalar & 1:
            found = _plus(found, power)
        power, scalar = _plus(power, power), scalar >> 1
    return found


def _packed(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def ed25519_sign(seed: bytes, message: bytes) -> bytes:
    """Return the 64-byte signature of `message` by the key of a 32-byte seed."""

    def hashed(*parts: bytes) -> int:
        return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")

    digest = hashlib.sha512(seed).digest()
    scalar = _clamped(digest[:32])
    public = _packed(_times(scalar))
    nonce = hashed(digest[32:], message) % ORDER
    first = _packed(_times(nonce))
    second = (nonce + hashed(first, public, message) * scalar) % ORDER
    return first + second.to_bytes(32, "little")


# -- HKDF: RFC 5869 section 2 ------------------------------------------------------------


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), ikm, "sha256")


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    found, block = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes([counter]), "sha256")
        found += block
    return found[:length]


# -- AES-256: FIPS 197 section 5 ---------------------------------------------------------


def _double(a: int) -> int:
    return a << 1 ^ (0x11B if a & 0x80 else 0)


def _product(a: int, b: int) -> int:
    found = 0
    while b:
        found ^= a if b & 1 else 0
        a, b = _double(a), b >> 1
    return found


def _sbox() -> Iterator[int]:
    for value in range(256):
        inverse = next((b for b in range(256) if _product(value, b) == 1), 0)
        spread = inverse * 0x101
        found = 0x63
        for turn in range(5):
            found ^= spread >> (8 - turn)
        yield found & 0xFF


SBOX = tuple(_sbox())
# What a byte turns into in the four rows of its column, SubBytes and MixColumns at once.
_MIX = [tuple(_product(SBOX[value], factor) for value in range(256)) for factor in (2, 1, 1, 3)]


def _round_keys(key: bytes) -> list[list[int]]:
    words = [list(key[i : i + 4]) for i in range(0, 32, 4)]
    constant = 1
    while len(words) < 60:
        word = list(words[-1])
        if len(words) % 8 == 0:
            word = [SBOX[b] for b in (*word[1:], word[0])]
            word[0] ^= constant
            constant = _double(constant)
        elif len(words) % 8 == 4:
            word = [SBOX[b] for b in word]
        words.append([a ^ b for a, b in zip(word, words[-8], strict=True)])
    return [[b for word in words[i : i + 4] for b in word] for i in range(0, 60, 4)]


def _shifted(state: Sequence[int]) -> list[int]:
    return [state[(i + 4 * (i % 4)) % 16] for i in range(16)]


def _aes_block(keys: list[list[int]], block: bytes) -> bytes:
    state = [a ^ b for a, b in zip(block, keys[0], strict=True)]
    for key in keys[1:-1]:
        state = _shifted(state)
        mixed = []
        for column in range(0, 16, 4):
            for row in range(4):
                value = key[column + row]
                for other in range(4):
                    value ^= _MIX[(row - other) % 4][state[column + other]]
                mixed.append(value)
        state = mixed
    last = [SBOX[value] for value in _shifted(state)]
    return bytes(a ^ b for a, b in zip(last, keys[-1], strict=True))


def aes256(key: bytes, block: bytes) -> bytes:
    """Return one block encrypted."""
    return _aes_block(_round_keys(key), block)


def aes256_ctr(key: bytes, length: int, counter: int = 0) -> bytes:
    """Return the key stream of AES-256-CTR from a counter block (NIST SP 800-38A section 6.5)."""
    keys = _round_keys(key)
    blocks = range(counter, counter + -(-length // 16))
    made = b"".join(_aes_block(keys, (c % 2**128).to_bytes(16, "big")) for c in blocks)
    return made[:length]


# -- ChaCha20-Poly1305: RFC 8439 section 2 -----------------------------------------------


def _turned(value: int, bits: int) -> int:
    value &= 0xFFFFFFFF
    return (value << bits | value >> (32 - bits)) & 0xFFFFFFFF


def _quarter(s: list[int], a: int, b: int, c: int, d: int) -> None:
    for one, two, three, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[one] = (s[one] + s[two]) & 0xFFFFFFFF
        s[three] = _turned(s[three] ^ s[one], bits)


def _chacha_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    def words(data: bytes) -> list[int]:
        return [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]

    start = [*words(b"expand 32-byte k"), *words(key), counter, *words(nonce)]
    state = list(start)
    for _ in range(10):
        for a in range(4):
            _quarter(state, a, a + 4, a + 8, a + 12)
        for a in range(4):
            _quarter(state, a, 4 + (a + 1) % 4, 8 + (a + 2) % 4, 12 + (a + 3) % 4)
    return b"".join(
        ((a + b) & 0xFFFFFFFF).to_bytes(4, "little") for a, b in zip(state, start, strict=True)
    )


def _poly1305(key: bytes, message: bytes) -> bytes:
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for i in range(0, len(message), 16):
        total = (total + int.from_bytes(message[i : i + 16] + b"\x01", "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def chacha20_poly1305(key: bytes, nonce: bytes, plain: bytes, aad: bytes) -> bytes:
    """Return ciphertext and tag."""
    stream = b"".join(_chacha_block(key, 1 + i, nonce) for i in range(-(-len(plain) // 64)))
    cipher = bytes(a ^ b for a, b in zip(plain, stream, strict=False))

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 16)

    lengths = len(aad).to_bytes(8, "little") + len(cipher).to_bytes(8, "little")
    tag = _poly1305(_chacha_block(key, 0, nonce)[:32], padded(aad) + padded(cipher) + lengths)
    return cipher + tag
