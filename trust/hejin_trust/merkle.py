"""Merkle tree hashing and proofs of RFC 6962 / RFC 9162, as pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from hejin_trust.errors import HejinError

HASH_SIZE = 32

#: Reads the hash of the complete subtree (level, position): the 2**level leaves
#: from position * 2**level. Level 0 holds the leaf hashes.
Subtrees = Callable[[int, int], bytes]


class ProofError(HejinError):
    """A Merkle proof does not prove what it claims."""

    code = "proof-invalid"


def _not_proven(en: str, zh: str) -> ProofError:
    return ProofError(
        f"{en} The log or the proof was altered; ask its owner for a fresh one.",
        f"{zh}日志或证明被改动过，请向其所有者重新索取。",
    )


def leaf_hash(entry: bytes) -> bytes:
    """Return SHA-256(0x00 | entry), the hash of one leaf. RFC 9162 section 2.1.1."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 | left | right), the hash of an inner node. RFC 9162 section 2.1.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


EMPTY_ROOT = hashlib.sha256(b"").digest()


def _split(size: int) -> int:
    """Return the largest power of two smaller than `size` (size >= 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_hash(start: int, end: int, subtrees: Subtrees) -> bytes:
    """Hash leaves start..end-1 where start is a multiple of the range's subtree size."""
    size = end - start
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return subtrees(level, start >> level)
    middle = start + _split(size)
    return node_hash(_range_hash(start, middle, subtrees), _range_hash(middle, end, subtrees))


def root_from(size: int, subtrees: Subtrees) -> bytes:
    """Return the root of the first `size` leaves from O(log size) complete subtrees."""
    return EMPTY_ROOT if size == 0 else _range_hash(0, size, subtrees)


def inclusion_from(index: int, size: int, subtrees: Subtrees) -> list[bytes]:
    """Return the inclusion path of leaf `index`, bottom-up. RFC 9162 section 2.1.3.1."""
    if not 0 <= index < size:
        raise _not_proven(
            f"Leaf {index} is outside a tree of {size} leaves.",
            f"叶 {index} 不在 {size} 片叶的树内。",
        )
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_hash(middle, end, subtrees))
            end = middle
        else:
            path.append(_range_hash(start, middle, subtrees))
            start = middle
    return path[::-1]


def consistency_from(old: int, new: int, subtrees: Subtrees) -> list[bytes]:
    """Return the proof that the first `old` of `new` leaves did not change.

    Empty where nothing needs proof (old is 0 or new). RFC 9162 section 2.1.4.1.
    """
    if not 0 <= old <= new:
        raise _not_proven(
            f"A tree of {new} leaves cannot extend one of {old}.",
            f"{new} 片叶的树不可能由 {old} 片叶的树延伸而来。",
        )
    path: list[bytes] = []
    start, end, whole = 0, new, True
    while 0 < old < end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_range_hash(middle, end, subtrees))
            end = middle
        else:
            path.append(_range_hash(start, middle, subtrees))
            start, whole = middle, False
    if old and not whole:
        path.append(_range_hash(start, end, subtrees))
    return path[::-1]


class Frontier:
    """The complete subtrees on a growing tree's right edge: its root in O(log n) memory.

    `peaks` are the subtree hashes from the largest to the smallest, one for each
    set bit of `size`.
    """

    __slots__ = ("peaks", "size")

    def __init__(self) -> None:
        self.size = 0
        self.peaks: list[bytes] = []

    @classmethod
    def resumed(cls, size: int, subtrees: Subtrees) -> Frontier:
        """Return the right edge of a stored tree of `size` leaves, to go on from."""
        edge, start = cls(), 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                edge.peaks.append(subtrees(level, start >> level))
                start += 1 << level
        edge.size = size
        return edge

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add one leaf hash; return the subtrees it completes as (level >= 1, position, hash)."""
        completed: list[tuple[int, int, bytes]] = []
        level, position, seen = 0, self.size, leaf
        while position & 1:
            seen = node_hash(self.peaks.pop(), seen)
            level, position = level + 1, position >> 1
            completed.append((level, position, seen))
        self.peaks.append(seen)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Return the root of the leaves added so far. RFC 9162 section 2.1.1."""
        if not self.peaks:
            return EMPTY_ROOT
        seen = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            seen = node_hash(peak, seen)
        return seen


def _subtrees_of(leaf_hashes: Sequence[bytes]) -> Subtrees:
    levels = [list(leaf_hashes)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append(
            [node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)],
        )
    return lambda level, position: levels[level][position]


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes held in memory. RFC 9162 section 2.1.1."""
    frontier = Frontier()
    for leaf in leaf_hashes:
        frontier.append(leaf)
    return frontier.root()


def inclusion_path(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Return the inclusion path of leaf `index` in a tree held in memory, bottom-up."""
    return inclusion_from(index, len(leaf_hashes), _subtrees_of(leaf_hashes))


def consistency_path(leaf_hashes: Sequence[bytes], old: int) -> list[bytes]:
    """Return the proof that the tree held in memory extends its own first `old` leaves."""
    return consistency_from(old, len(leaf_hashes), _subtrees_of(leaf_hashes))


def check_inclusion(
    entry: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Raise ProofError unless `entry` is leaf `index` of the `size`-leaf tree `root`.

    entry is the leaf's bytes, not its hash; proof is bottom-up, 32 bytes an element.
    RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise _not_proven(
            f"Leaf {index} is outside a tree of {size} leaves.",
            f"叶 {index} 不在 {size} 片叶的树内。",
        )
    position, last, seen = index, size - 1, leaf_hash(entry)
    for sibling in proof:
        if last == 0:
            raise _wrong_length(len(proof), size)
        if position & 1 or position == last:
            seen = node_hash(sibling, seen)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            seen = node_hash(seen, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise _wrong_length(len(proof), size)
    if seen != root:
        raise _not_proven(
            f"Leaf {index} is not in the tree with root {root.hex()}.",
            f"叶 {index} 不在根为 {root.hex()} 的树内。",
        )


def check_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise ProofError unless the `new`-leaf tree extends the `old`-leaf one.

    RFC 9162 section 2.1.4.2; the empty tree is extended by every tree (C2SP tlog-witness).
    """
    if not 0 <= old <= new:
        raise _not_proven(
            f"A tree of {new} leaves cannot extend one of {old}.",
            f"{new} 片叶的树不可能由 {old} 片叶的树延伸而来。",
        )
    if old == 0 or old == new:
        _check_trivial(old, old_root, new, new_root, proof)
        return
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        raise _wrong_length(len(proof), new)
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    seen_old = seen_new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise _wrong_length(len(proof), new)
        if position & 1 or position == last:
            seen_old, seen_new = node_hash(sibling, seen_old), node_hash(sibling, seen_new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            seen_new = node_hash(seen_new, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise _wrong_length(len(proof), new)
    if (seen_old, seen_new) != (old_root, new_root):
        raise _not_proven(
            f"The tree of {new} leaves does not extend the tree of {old}.",
            f"{new} 片叶的树不是 {old} 片叶的树的延伸。",
        )


def _check_trivial(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    if proof:
        raise _not_proven(
            "Nothing needs proof here, yet there is one.", "此处无需证明，却给出了证明。"
        )
    if old_root != (EMPTY_ROOT if old == 0 else new_root) or (new == 0 and new_root != EMPTY_ROOT):
        raise _not_proven(
            f"Two trees of {old} leaves have different roots.",
            f"两棵 {old} 片叶的树根不同。",
        )


def _wrong_length(length: int, size: int) -> ProofError:
    return _not_proven(
        f"A proof of {length} hashes does not fit a tree of {size} leaves.",
        f"{length} 个哈希的证明与 {size} 片叶的树不符。",
    )
