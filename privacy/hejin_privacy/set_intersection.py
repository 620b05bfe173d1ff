"""Private set intersection: one side learns the values of the members that both sides have.

The asker has members, the holder a value for each of its own. Diffie-Hellman on ristretto255: the
oblivious pseudorandom function of RFC 9497 (mode OPRF), with this protocol's own hashes:

    asker  -> holder   H(x)^a for each of its slots: members, and dummies up to a declared number
    holder -> asker    H(x)^ab for each, in order; and, shuffled, {tag, AEAD(value)} for each y it
                       holds, under keys from (y, H(y)^b), and dummies up to a declared number

The asker finds the tags of (x, H(x)^b). The holder sees uniformly random points, as many as were
declared. Of a y that the asker does not have, it sees 33 bytes that no one tells from random ones
(one-more gap Diffie-Hellman; Jarecki, Kiayias and Krawczyk 2014, ePrint 2014/650). Nothing here
stops an asker that puts strangers into its slots: who may be asked for is for its ledger to prove.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from hejin_privacy.errors import PrivacyError
from hejin_privacy.sodium import rbcl

POINT_BYTES: Final = 32
TAG_BYTES: Final = 16
ITEM_BYTES: Final = TAG_BYTES + 1 + 16  # a value has one byte, ChaCha20-Poly1305's tag 16
SALT_BYTES: Final = 16
MOST_SLOTS: Final = 1 << 19
MOST_ITEMS: Final = 1 << 19
"""Slots of a question, items of an answer: 34 MB together, and 40 seconds of one core."""

_NONCE = bytes(12)  # each key seals one value
_DOMAIN = b"hejin/set-intersection/v1/"


class IntersectionError(PrivacyError):
    """A question or an answer is not what the protocol allows; nothing was made of it."""

    code = "intersection-refused"


class PointError(IntersectionError):
    """Bytes are no point of the group, or the identity."""

    code = "point-refused"

    def __init__(self, place: int) -> None:
        super().__init__(
            f"point {place} is malformed, not canonical, or the identity: nothing was computed"
            " with it; its sender has to use this version",
            f"第 {place} 个点格式有误、非规范编码或为单位元：未用其作任何计算；请发送方使用本版本",
        )


@dataclass(frozen=True, slots=True)
class Asking:
    """What an asker keeps of one session; with it, and the members, all it sent can be redone.

    scalar  32 bytes, the session's own, never 0
    seed    32 random bytes, from which dummies and salts follow
    slots   the members in the order in which they are asked for; None is a dummy
    """

    scalar: bytes
    seed: bytes
    slots: tuple[str | None, ...]

    def salt(self, place: int) -> bytes:
        """Return the 16 bytes that hide slot `place` in a commitment."""
        return _derived(b"salt", self.seed, place)[:SALT_BYTES]

    def question(self) -> bytes:
        """Return the points to be sent, one a slot."""
        return b"".join(_times(self.scalar, self._point(place)) for place in range(len(self.slots)))

    def _point(self, place: int) -> bytes:
        member = self.slots[place]
        return _mapped(_derived(b"dummy", self.seed, place)) if member is None else hashed(member)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a holder sends: the asker's points times its scalar, in order, and the sealed items."""

    points: bytes
    items: bytes


def ask(members: Collection[str], slots: int) -> Asking:
    """Draw a session's secrets and put the members, each once, into random slots.

    raises   IntersectionError: more members than slots, or too many slots
    """
    if not 0 < slots <= MOST_SLOTS or len(members) > slots:
        raise IntersectionError(
            f"{len(members)} members do not fit into {slots} slots, of which there may be 1 to"
            f" {MOST_SLOTS}: declare a larger size",
            f"{len(members)} 个成员放不进 {slots} 个位置（可为 1 至 {MOST_SLOTS} 个）："
            "请申报更大的规模",
        )
    placed: list[str | None] = [*members, *(None for _ in range(slots - len(members)))]
    secrets.SystemRandom().shuffle(placed)
    return Asking(_scalar(), secrets.token_bytes(32), tuple(placed))


def answer(
    question: bytes, slots: int, held: Mapping[str, int], size: int, context: bytes
) -> Answer:
    """Return the holder's answer, by a scalar that is drawn for it and forgotten.

    question  the asker's points, 32 bytes each; slots: how many were declared
    held      member -> value, 0 to 255
    size      items that the answer has whatever is held; held has at most so many
    context   32 bytes that both sides know the session by
    raises    IntersectionError, PointError
    """
    points = _points(question, slots)
    if len(held) > size or size > MOST_ITEMS:
        raise IntersectionError(
            f"{len(held)} members are held, {size} are declared and {MOST_ITEMS} are the most:"
            " declare a larger size",
            f"持有 {len(held)} 个成员，申报 {size} 个，至多 {MOST_ITEMS} 个：请申报更大的规模",
        )
    scalar = _scalar()
    # Dummies are made like all others, for y that nobody asks for: they take as long, too.
    dummies = {secrets.token_hex(16): 0 for _ in range(size - len(held))}
    items = [
        _sealed(member, hashed(member), scalar, value, context)
        for member, value in {**held, **dummies}.items()
    ]
    secrets.SystemRandom().shuffle(items)
    return Answer(b"".join(_times_each(scalar, points)), b"".join(items))


def open_answer(asking: Asking, given: Answer, size: int, context: bytes) -> dict[str, int | None]:
    """Return member -> value of the members that the holder has too.

    size     items that were declared; the rest as for `answer`
    returns  None as the value of an item that bears a member's tag and does not open with its key
    raises   IntersectionError: other sizes; PointError

    Such an item is no error: a holder that spoils the item of one member would learn from a
    session that fails, and is asked again, that the asker has that member.
    """
    points = _points(given.points, len(asking.slots))
    if len(given.items) != size * ITEM_BYTES:
        raise _wrong_size(len(given.items), size * ITEM_BYTES)
    sealed = {item[:TAG_BYTES]: item[TAG_BYTES:] for item in _cut(given.items, ITEM_BYTES)}
    inverse = rbcl.crypto_core_ristretto255_scalar_invert(asking.scalar)
    found: dict[str, int | None] = {}
    # Those of dummies as well: what came back for them is looked at as closely.
    for member, point in zip(asking.slots, _times_each(inverse, points), strict=True):
        if member is None:
            continue
        tag, key = _keys(member, point, context)
        if tag in sealed:
            found[member] = _opened(key, sealed[tag])
    return found


def hashed(member: str) -> bytes:
    """Return the group element of a member: RFC 9496 section 4.3.4 over SHA-512."""
    return _mapped(hashlib.sha512(_DOMAIN + b"member\x00" + member.encode()).digest())


def _mapped(uniform: bytes) -> bytes:
    """Return the element that RFC 9496's one-way map gives 64 bytes."""
    return bytes(rbcl.crypto_core_ristretto255_from_hash(uniform))


def _derived(use: bytes, seed: bytes, place: int) -> bytes:
    return hashlib.sha512(_DOMAIN + use + b"\x00" + seed + place.to_bytes(8, "big")).digest()


def _scalar() -> bytes:
    while True:  # 0 comes once in 2^252
        drawn = bytes(rbcl.crypto_core_ristretto255_scalar_reduce(secrets.token_bytes(64)))
        if any(drawn):
            return drawn


def _times(scalar: bytes, point: bytes) -> bytes:
    """Return a multiple of a point; RuntimeError for no canonical point, and for the identity.

    libsodium decodes as RFC 9496 section 4.3.1 says, and refuses a product that is the identity:
    the group's order is prime, so that only the identity has one.
    """
    return bytes(rbcl.crypto_scalarmult_ristretto255(scalar, point))


def _times_each(scalar: bytes, points: Sequence[bytes]) -> Iterator[bytes]:
    for place, point in enumerate(points):
        try:
            yield _times(scalar, point)
        except RuntimeError as reason:
            raise PointError(place) from reason


def _points(data: bytes, count: int) -> list[bytes]:
    if not 0 < count <= MOST_SLOTS or len(data) != count * POINT_BYTES:
        raise _wrong_size(len(data), count * POINT_BYTES)
    return _cut(data, POINT_BYTES)


def _cut(data: bytes, width: int) -> list[bytes]:
    return [data[start : start + width] for start in range(0, len(data), width)]


def _sealed(member: str, point: bytes, scalar: bytes, value: int, context: bytes) -> bytes:
    tag, key = _keys(member, _times(scalar, point), context)
    return tag + ChaCha20Poly1305(key).encrypt(_NONCE, bytes([value]), None)


def _keys(member: str, shared: bytes, context: bytes) -> tuple[bytes, bytes]:
    """Return (tag, key) of a member: the output of RFC 9497's Finalize, bound to the session."""
    told = _DOMAIN + b"keys\x00" + context + shared + member.encode()
    digest = hashlib.sha512(told).digest()
    return digest[:TAG_BYTES], digest[TAG_BYTES : TAG_BYTES + 32]


def _opened(key: bytes, sealed: bytes) -> int | None:
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed, None)[0]
    except InvalidTag:
        return None


def _wrong_size(got: int, wanted: int) -> IntersectionError:
    return IntersectionError(
        f"{got} bytes came where {wanted} were declared: its sender has to send exactly these",
        f"收到 {got} 字节，申报为 {wanted} 字节：请发送方如数发送",
    )
