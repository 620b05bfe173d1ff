"""RFC 6962 trees: published vectors, then a slow recursive reference."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_trust.merkle import (
    EMPTY_ROOT,
    Frontier,
    ProofError,
    check_consistency,
    check_inclusion,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_of,
)

# The eight leaves of Certificate Transparency's reference tree with its roots and proofs:
# google/certificate-transparency, cpp/merkletree/merkle_tree_test.cc (kInputs, kSHA256Roots,
# kSHA256Paths, kSHA256Proofs); also transparency-dev/merkle testonly.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCY = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
    (
        6,
        7,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


def unhex(digest: str) -> bytes:
    return bytes.fromhex(digest)


def hexed(hashes: list[bytes]) -> list[str]:
    return [item.hex() for item in hashes]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_of_the_certificate_transparency_tree(size: int) -> None:
    assert root_of(HASHES[:size]).hex() == ROOTS[size - 1]


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert root_of([]) == EMPTY_ROOT == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_inclusion_paths_of_the_certificate_transparency_tree(
    index: int, size: int, path: list[str]
) -> None:
    assert hexed(inclusion_path(HASHES[:size], index)) == path
    proof = [bytes.fromhex(item) for item in path]
    check_inclusion(LEAVES[index], index, size, proof, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY)
def test_consistency_paths_of_the_certificate_transparency_tree(
    old: int, new: int, path: list[str]
) -> None:
    assert hexed(consistency_path(HASHES[:new], old)) == path
    check_consistency(
        old,
        bytes.fromhex(ROOTS[old - 1]),
        new,
        bytes.fromhex(ROOTS[new - 1]),
        [bytes.fromhex(item) for item in path],
    )


# Every kind of damage of transparency-dev/merkle cmd/proofgen (its testdata/inclusion and
# testdata/consistency), done to the proofs above.
WRONG_ROOT = bytes.fromhex("abacaba000000000000000000000000000000000000000000060061e00123456")


def damaged_paths(path: list[bytes], *roots: bytes) -> list[list[bytes]]:
    found = [[b"", *path], [*path, b""]]
    for root in roots:
        found += [[root, *path], [*path, root]]
    for place, digest in enumerate(path):
        for bit in (3, 4):
            flipped = bytes([digest[0] ^ 1 << bit]) + digest[1:]
            found.append([*path[:place], flipped, *path[place + 1 :]])
    if path:
        found += [path[:-1], path[1:]]
    if len(path) > 1:
        found.append([path[0], WRONG_ROOT, *path[1:]])
    return found


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_no_damage_to_a_published_inclusion_path_is_accepted(
    index: int, size: int, path: list[str]
) -> None:
    leaf, root, proof = LEAVES[index], bytes.fromhex(ROOTS[size - 1]), list(map(unhex, path))
    wrong = [(leaf, place, size, proof, root) for place in (index - 1, index + 1, index ^ 2)]
    wrong += [(leaf, index, many, proof, root) for many in (size * 2, size // 2)]
    wrong += [(b"WrongLeaf", index, size, proof, root)]
    wrong += [(leaf, index, size, proof, other) for other in (b"", EMPTY_ROOT, WRONG_ROOT)]
    wrong += [(leaf, index, size, damaged, root) for damaged in damaged_paths(proof, root)]
    for attempt in wrong:
        with pytest.raises(ProofError):
            check_inclusion(*attempt)


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY)
def test_no_damage_to_a_published_consistency_path_is_accepted(
    old: int, new: int, path: list[str]
) -> None:
    before, after = (bytes.fromhex(ROOTS[size - 1]) for size in (old, new))
    proof = list(map(unhex, path))
    wrong = [(size, before, new, after, proof) for size in (old - 1, old + 1, old ^ 2)]
    wrong += [(old, before, size, after, proof) for size in (new * 2, new // 2)]
    wrong += [(old, WRONG_ROOT, new, after, proof), (old, before, new, WRONG_ROOT, proof)]
    wrong += [(old, EMPTY_ROOT, new, after, proof), (old, before, new, EMPTY_ROOT, proof)]
    if old != new:
        wrong += [(old, after, new, before, proof)]
    wrong += [(old, before, new, after, damaged) for damaged in damaged_paths(proof, before, after)]
    for attempt in wrong:
        with pytest.raises(ProofError):
            check_consistency(*attempt)


# The definitions of RFC 6962 section 2.1, word for word.
def split(size: int) -> int:
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def slow_root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + slow_root(leaves[:k]) + slow_root(leaves[k:])).digest()


def slow_path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*slow_path(m, leaves[:k]), slow_root(leaves[k:])]
    return [*slow_path(m - k, leaves[k:]), slow_root(leaves[:k])]


def slow_subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if whole else [slow_root(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*slow_subproof(m, leaves[:k], whole), slow_root(leaves[k:])]
    return [*slow_subproof(m - k, leaves[k:], False), slow_root(leaves[:k])]


LEAF_LISTS = st.lists(st.binary(max_size=4), min_size=1, max_size=70)


@given(leaves=LEAF_LISTS, data=st.data())
def test_inclusion_agrees_with_the_recursive_definition(
    leaves: list[bytes], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof, root = slow_path(index, leaves), slow_root(leaves)
    assert inclusion_path([leaf_hash(leaf) for leaf in leaves], index) == proof
    check_inclusion(leaves[index], index, len(leaves), proof, root)


@given(leaves=LEAF_LISTS, data=st.data())
def test_consistency_agrees_with_the_recursive_definition(
    leaves: list[bytes], data: st.DataObject
) -> None:
    old = data.draw(st.integers(1, len(leaves)))
    proof = slow_subproof(old, leaves, True)
    assert consistency_path([leaf_hash(leaf) for leaf in leaves], old) == proof
    check_consistency(old, slow_root(leaves[:old]), len(leaves), slow_root(leaves), proof)


@given(leaves=LEAF_LISTS, data=st.data())
def test_a_proof_admits_its_own_leaf_and_no_other(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    root, proof = slow_root(leaves), slow_path(index, leaves)
    altered: list[Callable[[], None]] = [
        lambda: check_inclusion(leaves[index] + b"!", index, len(leaves), proof, root),
        lambda: check_inclusion(leaves[index], index, len(leaves), [*proof, root], root),
        lambda: check_inclusion(leaves[index], len(leaves), len(leaves), proof, root),
        lambda: check_inclusion(leaves[index], index, len(leaves), proof, leaf_hash(root)),
    ]
    if proof:
        altered.append(lambda: check_inclusion(leaves[index], index, len(leaves), proof[:-1], root))
        altered.append(
            lambda: check_inclusion(leaves[index], index, len(leaves), [root, *proof[1:]], root)
        )
    for attempt in altered:
        with pytest.raises(ProofError):
            attempt()


@given(leaves=LEAF_LISTS, data=st.data())
def test_a_rewritten_past_is_not_consistent(leaves: list[bytes], data: st.DataObject) -> None:
    old = data.draw(st.integers(1, len(leaves)))
    changed = data.draw(st.integers(0, old - 1))
    other = [*leaves[:changed], leaves[changed] + b"!", *leaves[changed + 1 :]]
    with pytest.raises(ProofError):
        check_consistency(
            old,
            slow_root(leaves[:old]),
            len(other),
            slow_root(other),
            slow_subproof(old, other, True),
        )


def test_trees_that_cannot_extend_each_other_are_refused() -> None:
    root = root_of(HASHES)
    with pytest.raises(ProofError):
        check_consistency(9, root, 8, root, [])
    with pytest.raises(ProofError):
        check_consistency(8, root, 8, EMPTY_ROOT, [])
    with pytest.raises(ProofError):
        check_consistency(0, EMPTY_ROOT, 0, root, [])
    with pytest.raises(ProofError):
        check_consistency(0, root, 8, root, [])
    with pytest.raises(ProofError):
        check_consistency(0, EMPTY_ROOT, 8, root, [root])
    with pytest.raises(ProofError):
        check_consistency(3, root, 8, root, [])
    with pytest.raises(ProofError):
        inclusion_path(HASHES, 8)
    with pytest.raises(ProofError):
        consistency_path(HASHES, 9)
    check_consistency(0, EMPTY_ROOT, 8, root, [])


@given(leaves=st.lists(st.binary(max_size=4), max_size=40))
def test_the_frontier_knows_every_root_on_the_way(leaves: list[bytes]) -> None:
    frontier = Frontier()
    for count, leaf in enumerate(leaves):
        assert frontier.root() == slow_root(leaves[:count])
        for level, position, digest in frontier.append(leaf_hash(leaf)):
            span = 1 << level
            assert digest == slow_root(leaves[position * span : (position + 1) * span])
    assert frontier.size == len(leaves)


def test_leaves_and_nodes_never_share_a_hash() -> None:
    assert leaf_hash(HASHES[0] + HASHES[1]) != node_hash(HASHES[0], HASHES[1])
