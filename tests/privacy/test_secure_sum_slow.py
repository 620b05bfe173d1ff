"""The protocol against the slow one on random runs, and both against published vectors."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_refusals import opened
from masking_world import NODES, PLAN, QUERY, RUN, Round, World
from slow_crypto import (
    aes256,
    aes256_ctr,
    chacha20_poly1305,
    ed25519_sign,
    hkdf_expand,
    hkdf_extract,
    x25519,
)
from slow_secure_sum import SlowNode, SlowRound, stream

from hejin_privacy.round_context import DOMAIN
from hejin_privacy.secure_sum.keys import expand
from hejin_privacy.secure_sum.masks import CHUNK, add_masks

H = bytes.fromhex


# -- published answers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scalar", "point", "shared"),
    [
        pytest.param(
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
            id="rfc-7748-5.2-first",
        ),
        pytest.param(
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
            id="rfc-7748-5.2-second-bit-255-set",
        ),
        pytest.param(
            "09" + "00" * 31,
            "09" + "00" * 31,
            "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
            id="rfc-7748-5.2-iterated-once",
        ),
    ],
)
def test_x25519(scalar: str, point: str, shared: str) -> None:
    assert x25519(H(scalar), H(point)).hex() == shared
    key = X25519PrivateKey.from_private_bytes(H(scalar))
    assert key.exchange(X25519PublicKey.from_public_bytes(H(point))).hex() == shared


@pytest.mark.parametrize(
    ("ikm", "salt", "info", "prk", "okm"),
    [
        pytest.param(
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            id="rfc-5869-a.1",
        ),
        pytest.param(
            "0b" * 22,
            "",
            "",
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            id="rfc-5869-a.3",
        ),
    ],
)
def test_hkdf(ikm: str, salt: str, info: str, prk: str, okm: str) -> None:
    assert hkdf_extract(H(salt), H(ikm)).hex() == prk
    assert hkdf_expand(H(prk), H(info), 42).hex() == okm


@given(key=st.binary(min_size=32, max_size=32), context=st.binary(max_size=80))
def test_expand_is_hkdf_expand(key: bytes, context: bytes) -> None:
    assert expand(key, b"mask", context) == hkdf_expand(
        key, DOMAIN.encode() + b"mask" + context, 32
    )


def test_aes_256_ctr_of_nist_sp_800_38a_f_5_5() -> None:
    key = H("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    plain = H(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    cipher = (
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    made = aes256_ctr(key, 64, int.from_bytes(H("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"), "big"))
    assert bytes(a ^ b for a, b in zip(plain, made, strict=True)).hex() == cipher


@pytest.mark.parametrize(
    ("key", "block"),
    [
        pytest.param(
            "c47b0294dbbbee0fec4757f22ffeee3587ca4730c3d33b691df38bab076bc558",
            "46f2fb342d6f0ab477476fc501242c5f",
            id="key-sbox-256-0",
        ),
        pytest.param("80" + "00" * 31, "e35a6dcb19b201a01ebcfa8aa22b5759", id="var-key-256-0"),
    ],
)
def test_the_first_mask_words_of_nist_aesavs(key: str, block: str) -> None:
    """Its plaintext is the zero block, our first counter block (AESAVS appendices B and E)."""
    vector = np.zeros(2, "<u8")
    add_masks(vector, [(H(key), 1)])
    assert vector.tobytes().hex() == block == aes256(H(key), bytes(16)).hex()


def test_chacha20_poly1305_of_rfc_8439_2_8_2() -> None:
    plain = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the"
        b" future, sunscreen would be it."
    )
    sealed = chacha20_poly1305(
        bytes(range(0x80, 0xA0)),
        H("070000004041424344454647"),
        plain,
        H("50515253c0c1c2c3c4c5c6c7"),
    )
    assert sealed[:16].hex() == "d31a8d34648e60db7b86afbc53ef7ec2"
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"


def test_ed25519_of_rfc_8032_7_1() -> None:
    seed = H("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert ed25519_sign(seed, b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


# -- masks -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_masks_go_on_across_chunks(size: int) -> None:
    """The reference encrypts counter blocks one by one in ECB."""
    keys = [bytes([k]) * 32 for k in (1, 2, 3)]
    blocks = b"".join(c.to_bytes(16, "big") for c in range(size // 2 + 1))
    expected = np.arange(size, dtype="<u8") << np.uint64(50)
    made = expected.copy()
    signs = (1, -1, 1)
    for key, sign in zip(keys, signs, strict=True):
        raw = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(blocks)
        words = np.frombuffer(raw, "<u8")[:size]
        expected = expected + words if sign > 0 else expected - words
    add_masks(made, zip(keys, signs, strict=True))
    np.testing.assert_array_equal(made, expected)


@given(key=st.binary(min_size=32, max_size=32), size=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_masks_are_the_slow_key_stream(key: bytes, size: int) -> None:
    vector = np.full(size, 2**64 - 1, "<u8")
    add_masks(vector, [(key, 1)])
    assert vector.tolist() == [(word - 1) % 2**64 for word in stream(key, size)]
    add_masks(vector, [(key, -1)])
    assert vector.tolist() == [2**64 - 1] * size


@pytest.mark.parametrize(
    ("key", "sign"), [(bytes(31), 1), (bytes(33), 1), (bytes(32), 0), (bytes(32), 2)]
)
def test_another_key_length_or_sign_is_refused(key: bytes, sign: int) -> None:
    with pytest.raises(ValueError, match="a mask needs 32 bytes and a sign"):
        add_masks(np.zeros(2, "<u8"), [(key, sign)])


# -- whole runs --------------------------------------------------------------------------


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Round, tuple[str, ...], tuple[str, ...]]:
    """Return a round of n nodes, its survivors and tau of them whose shares are used."""
    n = draw(st.integers(2, 5))
    tau = draw(st.integers(n // 2 + 1, n))
    m = draw(st.integers(max(tau, 2), n))
    nodes = NODES[:n]
    edge = st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1])
    value = st.one_of(edge, st.integers(-(2**63), 2**63 - 1))
    size = draw(st.integers(1, 3))
    vectors = {name: draw(st.lists(value, min_size=size, max_size=size)) for name in nodes}
    world = World(nodes, tau=tau, m=m, t=0)
    made = Round(world, vectors, number=draw(st.integers(1, 10_000)))
    kept = draw(st.integers(m, n))
    survivors = tuple(sorted(draw(st.permutations(nodes))[:kept]))
    return made, survivors, tuple(draw(st.permutations(survivors))[:tau])


@given(drawn=rounds())
@settings(max_examples=40, deadline=None)
def test_random_runs_agree_with_the_slow_protocol(
    drawn: tuple[Round, tuple[str, ...], tuple[str, ...]],
) -> None:
    made, survivors, takers = drawn
    world, nodes = made.world, made.roster.nodes
    slow = SlowRound(
        RUN,
        PLAN,
        world.tau,
        world.invitation.m,
        made.number,
        QUERY,
        tuple(
            SlowNode(
                name,
                world.people[name].private,
                world.secret(name).value,
                world.secret(name).coefficients,
                tuple(made.vectors[name]),
            )
            for name in nodes
        ),
    )
    for index, name in enumerate(nodes, start=1):
        masked = made.answers[name].masked
        assert np.frombuffer(masked.vector, "<u8").tolist() == slow.masked(index)
        assert masked.commitments.secret == slow.secret_commitment(index).hex()
        assert list(masked.commitments.shares) == [
            slow.share_commitment(index, j).hex() for j in range(1, len(nodes) + 1)
        ]
        assert list(masked.ciphertexts) == [
            slow.ciphertext(index, j) for j in range(1, len(nodes) + 1)
        ]
    total = [value % 2**64 for value in opened(made, survivors, takers)]
    places = [nodes.index(name) + 1 for name in survivors]
    assert total == slow.total(places, [nodes.index(name) + 1 for name in takers])
    assert total == [sum(made.vectors[n][k] for n in survivors) % 2**64 for k in range(len(total))]
