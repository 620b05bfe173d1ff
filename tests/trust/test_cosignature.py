"""Timestamped cosignatures: a published vector, then every refusal."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_trust.checkpoint import CheckpointError, sign_checkpoint, sign_note
from hejin_trust.cosignature import (
    cosign,
    cosigner_id,
    cosigner_key,
    open_cosigned,
    witness_name,
)
from hejin_trust.keys import SigningKey
from hejin_trust.merkle import leaf_hash

# Checkpoints with Ed25519 cosignatures of fixed keys and one fixed time, made by Go's torchwood:
# FiloSottile/sunlight cmd/skylight/testdata (gen.go; witness/, witness/mirror/, witness2/). A seed
# is the SHA-256 of "skylight test NAME key", the time is 2025-12-31T00:00:00Z.
TIME = datetime(2025, 12, 31, tzinfo=UTC)
ROME = "rome2026h1.example.org\n300\n"
PUBLISHED = [
    pytest.param(
        "witness",
        f"{ROME}lCkHUpkmVBEms2r2T1K6Og69+wUuuN3MIEW1/ezu2v0=\n",
        "witness.example.org+b8a2cf20+BFLN3yikSfFkVAJtrnh/CiY3Zozkoy7clp+P7XB28qUN",
        "— witness.example.org uKLPIAAAAABpVGeAhm2bOvKc3LaB9PFN1ruG19Y5yqslmcAAbhftnn1Zznmo0LXFZq4L"
        "GvqKqLX8jWlwLKasxEGTLIqAVusneCBmBw==\n",
        id="witness",
    ),
    pytest.param(
        "mirror",
        f"{ROME}gw31yQrqZZCcEOPrzX+bpy3nJ6QgngTKn8G1m0i62uU=\n",
        "mirror.example.org+3fb148ef+BAAjjch9GyYz0sJsJx7ALhbdAtz2ov0unbzSl1vMp94O",
        "— mirror.example.org P7FI7wAAAABpVGeAjA1S4pJm6MbcXjX7UUImu4azZtrfcVW2uyr/LXIYlwEJzXC0N0EiZ"
        "kbqfLdXt/4gVEEuGmxJjAfXKMCISpsJAg==\n",
        id="mirror",
    ),
    pytest.param(
        "witness2",
        "milan2026h1.example.org\n300\nlCkHUpkmVBEms2r2T1K6Og69+wUuuN3MIEW1/ezu2v0=\n",
        "witness2.example.org+2e55b896+BIZ7fpceQWd60IfqQeS9IAnmNOCZjMDne8lZuguz/bi9",
        "— witness2.example.org LlW4lgAAAABpVGeAN/uFWqfjdU94rrKxFycCggM0Sa1L5tOJCJdYBwJ41CQsgKWA6B0"
        "+vywok3cPI3JIzuPeR+VotuYe/eNy0+30Dw==\n",
        id="second-witness",
    ),
]

ORIGIN = "hejin/test/node/a"
WITNESS = witness_name("test", "regulator")
LOG, REGULATOR, OTHER = (SigningKey.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
ROOT = leaf_hash(b"one")
NOTE = sign_checkpoint(ORIGIN, 7, ROOT, LOG)
AT = datetime(2026, 11, 26, 17, 0, 3, tzinfo=UTC)
STAMPS = range(946_684_800, 253_370_764_800)  # `date -d 2000-01-01Z +%s`, and of 9999
AT_BYTES = int(AT.timestamp()).to_bytes(8, "big")
TEXT = NOTE.partition("\n\n")[0] + "\n"
LINE = cosign(NOTE, WITNESS, REGULATOR, AT)
COSIGNED = NOTE + LINE


def opened(note: str) -> None:
    open_cosigned(note, ORIGIN, LOG.public, WITNESS, REGULATOR.public)


def line(*, name: str = WITNESS, data: bytes) -> str:
    return f"— {name} {base64.b64encode(data).decode()}\n"


def signed(stamp: bytes, message: str, key: SigningKey = REGULATOR) -> str:
    """A cosignature line over any message, the time bytes as given."""
    return line(data=cosigner_id(WITNESS, key.public) + stamp + key.sign(message.encode()))


@pytest.mark.parametrize(("name", "text", "verifier", "cosignature"), PUBLISHED)
def test_a_published_cosignature_is_made_and_opened(
    name: str, text: str, verifier: str, cosignature: str
) -> None:
    witness = verifier.split("+")[0]
    key = SigningKey.from_seed(hashlib.sha256(f"skylight test {name} key".encode()).digest())
    assert cosigner_key(witness, key.public) == verifier
    origin = text.split("\n")[0]
    note = sign_note(text, origin, LOG)
    assert cosign(note, witness, key, TIME) == cosignature
    found = open_cosigned(note + cosignature, origin, LOG.public, witness, key.public)
    assert (found.checkpoint.text(), found.time) == (text, TIME)


def test_the_witness_is_named_as_the_design_says() -> None:
    assert WITNESS == "hejin/test/regulator/regulator"


@given(
    st.integers(STAMPS[0], STAMPS[-1]), st.binary(min_size=32, max_size=32), st.integers(0, 2**53)
)
def test_what_is_cosigned_opens_with_its_time(stamp: int, root: bytes, size: int) -> None:
    note = sign_checkpoint(ORIGIN, size, root, LOG)
    at = datetime.fromtimestamp(stamp, UTC)
    found = open_cosigned(
        note + cosign(note, WITNESS, REGULATOR, at), ORIGIN, LOG.public, WITNESS, REGULATOR.public
    )
    assert (found.checkpoint.size, found.checkpoint.root, found.time) == (size, root, at)


def test_cosignatures_of_others_do_not_disturb() -> None:
    opened(COSIGNED + cosign(NOTE, "witness.example.org", OTHER, AT))
    opened(NOTE + cosign(NOTE, WITNESS, OTHER, AT) + LINE)


DAMAGE = [
    pytest.param(lambda: NOTE, "0 cosignatures", id="missing"),
    pytest.param(
        lambda: NOTE + cosign(NOTE, WITNESS, OTHER, AT), "0 cosignatures", id="another-key"
    ),
    pytest.param(
        lambda: NOTE + cosign(NOTE, "hejin/else/regulator/regulator", REGULATOR, AT),
        "0 cosignatures",
        id="another-name",
    ),
    pytest.param(lambda: COSIGNED + LINE, "2 cosignatures", id="twice"),
    pytest.param(
        lambda: NOTE + signed(AT_BYTES, f"cosignature/v1\ntime 1\n{TEXT}"),
        "not of",
        id="time-altered",
    ),
    pytest.param(
        lambda: sign_checkpoint(ORIGIN, 8, ROOT, LOG) + LINE,
        "not of",
        id="text-altered",
    ),
    *(
        pytest.param(
            lambda stamp=stamp: (
                NOTE + signed(stamp.to_bytes(8, "big"), f"cosignature/v1\ntime {stamp}\n{TEXT}")
            ),
            "has no meaning",
            id=f"time-{stamp}",
        )
        for stamp in (0, STAMPS.start - 1, STAMPS.stop, 253_402_300_800, 1 << 39, 1 << 40)
    ),
    pytest.param(
        lambda: NOTE + signed(b"\xff" * 8, "anything"), "has no meaning", id="largest-time"
    ),
    pytest.param(
        lambda: NOTE + line(data=cosigner_id(WITNESS, REGULATOR.public) + AT_BYTES),
        "not of",
        id="no-signature",
    ),
    pytest.param(
        lambda: NOTE + line(data=cosigner_id(WITNESS, REGULATOR.public) + b"\0"),
        "has no meaning",
        id="cut-off",
    ),
    pytest.param(lambda: f"{NOTE}— {WITNESS} AB==\n", "unusual spelling", id="loose-base64"),
    pytest.param(lambda: f"{NOTE}— {WITNESS} !\n", "malformed base64", id="not-base64"),
    pytest.param(
        # The log's kind of signature, by the witness' key: one is never taken for the other.
        lambda: NOTE + sign_note(TEXT, WITNESS, REGULATOR).rpartition("\n\n")[2],
        "0 cosignatures",
        id="plain-signature-of-the-witness",
    ),
    pytest.param(
        lambda: COSIGNED.replace("\n7\n", "\n8\n"), "not signed by", id="not-what-the-log-signed"
    ),
    pytest.param(lambda: f"{TEXT}\n{LINE}", "0 signatures", id="cosignature-alone"),
]


@pytest.mark.parametrize(("damaged", "reason"), DAMAGE)
def test_a_note_that_is_not_cosigned_is_refused(damaged: Callable[[], str], reason: str) -> None:
    opened(COSIGNED)
    with pytest.raises(CheckpointError, match=reason):
        opened(damaged())


@given(st.integers(0, 71), st.integers(0, 7))
def test_no_bit_of_a_cosignature_may_flip(place: int, bit: int) -> None:
    data = bytearray(base64.b64decode(COSIGNED.rstrip("\n").rpartition(" ")[2]))
    data[4 + place] ^= 1 << bit
    with pytest.raises(CheckpointError):
        opened(NOTE + line(data=bytes(data)))


def test_another_log_is_refused_though_the_witness_cosigned_it() -> None:
    with pytest.raises(CheckpointError):
        open_cosigned(COSIGNED, f"{ORIGIN}/internal", LOG.public, WITNESS, REGULATOR.public)
