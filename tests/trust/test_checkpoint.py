"""C2SP notes, checkpoints and proofs: published vectors, then every refusal."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_trust.checkpoint import (
    MAX_NOTE_BYTES,
    Checkpoint,
    CheckpointError,
    InclusionProof,
    format_proof,
    key_id,
    open_checkpoint,
    open_note,
    parse_proof,
    sign_checkpoint,
    sign_note,
    verifier_key,
)
from hejin_trust.keys import SigningKey
from hejin_trust.merkle import EMPTY_ROOT, leaf_hash

# The example of Go's golang.org/x/mod/sumdb/note (package documentation and note_test.go), which
# C2SP's signed-note.md took over: verifier key, signer key, text and signature.
NAME = "PeterNeumann"
VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
SIGNATURE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb"
    "6KE6RyyBwJnAM=\n"
)
PUBLIC = base64.b64decode(VERIFIER.split("+", 2)[2])[1:]
SEED = base64.b64decode(SIGNER.split("+", 4)[4])[1:]

ORIGIN = "hejin/test/node/a"
KEY = SigningKey.from_seed(bytes(32))
ROOT = leaf_hash(b"one")


def test_the_go_example_key_has_its_published_id() -> None:
    assert key_id(NAME, PUBLIC).hex() == "c74f20a3"


def test_the_go_example_note_opens() -> None:
    assert open_note(f"{TEXT}\n{SIGNATURE}", NAME, PUBLIC) == TEXT


def test_signing_the_go_example_gives_its_published_note() -> None:
    assert sign_note(TEXT, NAME, SigningKey.from_seed(SEED)) == f"{TEXT}\n{SIGNATURE}"


# The example of C2SP signed-note.md, section "Verifier keys".
C2SP_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONnc"
    "AlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# Tree heads of the Go checksum database: the example of C2SP tlog-checkpoint.md is its tree of
# 20,852,163 leaves under another origin and name; the other one is in FiloSottile/torchwood,
# cmd/litewitness/testdata/sumdb.txt. Its key stands in Go's cmd/go/internal/modfetch/key.go.
SUM_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUM_NOTES = [
    "go.sum database tree\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— sum.golang.org Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+z"
    "yWE+xeMcTOAYQ8=\n",
    "go.sum database tree\n35225469\nvt5T6GaLCXvyHFl9VUvvItR43XZxfLgftEcTyO3eJCQ=\n\n"
    "— sum.golang.org Az3grpukl5AXaVfYkLiDGORx/DN2nlcS5kZHR5uYOBV2KA2HgXpD+gu9HHONebHLAyaKbbTM75QTt"
    "PydhKCExixSfwQ=\n",
]


def key_of(verifier: str) -> tuple[str, bytes]:
    name, _, key = verifier.split("+", 2)
    return name, base64.b64decode(key)[1:]


def test_the_note_of_the_specification_opens() -> None:
    assert open_note(C2SP_NOTE, *key_of(C2SP_KEY)) == "This is an example message.\n"


@pytest.mark.parametrize("note", SUM_NOTES)
def test_tree_heads_of_the_go_checksum_database_open(note: str) -> None:
    text = open_note(note, *key_of(SUM_KEY))
    origin, size, root = text.split("\n")[:3]
    assert Checkpoint(origin, int(size), base64.b64decode(root)).text() == text


@pytest.mark.parametrize("published", [VERIFIER, C2SP_KEY, SUM_KEY])
def test_a_key_is_written_as_others_publish_theirs(published: str) -> None:
    assert verifier_key(*key_of(published)) == published


def test_a_checkpoint_reads_as_the_specification_writes_it() -> None:
    note = sign_checkpoint(ORIGIN, 7, ROOT, KEY)
    text, blank, signature = note.partition("\n\n")
    assert text.split("\n") == [ORIGIN, "7", base64.b64encode(ROOT).decode()]
    assert blank
    assert signature.startswith(f"— {ORIGIN} ")
    assert open_checkpoint(note, ORIGIN, KEY.public) == Checkpoint(ORIGIN, 7, ROOT)


def test_cosignatures_of_others_do_not_disturb() -> None:
    note = sign_checkpoint(ORIGIN, 7, ROOT, KEY) + SIGNATURE
    assert open_checkpoint(note, ORIGIN, KEY.public).size == 7


def test_a_flipped_bit_in_a_checkpoint_is_refused() -> None:
    note = sign_checkpoint(ORIGIN, 7, ROOT, KEY)
    with pytest.raises(CheckpointError, match="not signed by"):
        open_checkpoint(note.replace("\n7\n", "\n8\n"), ORIGIN, KEY.public)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda note: "", id="empty"),
        pytest.param(lambda note: note[:-1], id="no-final-newline"),
        pytest.param(lambda note: note.replace("\n\n", "\n"), id="no-blank-line"),
        pytest.param(lambda note: note.replace("— ", "- "), id="hyphen"),
        pytest.param(lambda note: note.replace("\n", "\r\n"), id="carriage-return"),
        pytest.param(lambda note: note + note.split("\n\n")[1], id="same-key-twice"),
        pytest.param(lambda note: note + "— x AAAA\n", id="short-signature"),
        pytest.param(lambda note: note + "— x !\n", id="not-base64"),
        pytest.param(lambda note: note + "— x AB==\n", id="loose-base64"),
        pytest.param(lambda note: note + SIGNATURE * 64, id="too-many-signatures"),
        pytest.param(lambda note: note + "x" * MAX_NOTE_BYTES + "\n", id="too-long"),
    ],
)
def test_a_malformed_note_is_refused(damage: Callable[[str], str]) -> None:
    with pytest.raises(CheckpointError):
        open_checkpoint(damage(sign_checkpoint(ORIGIN, 7, ROOT, KEY)), ORIGIN, KEY.public)


@pytest.mark.parametrize(
    "text",
    [
        "hejin/test/node/b\n7\n{root}\n",
        f"{ORIGIN}\n07\n{{root}}\n",
        f"{ORIGIN}\n-7\n{{root}}\n",
        f"{ORIGIN}\n7\n{{root}}AAAA\n",
        f"{ORIGIN}\n9223372036854775808\n{{root}}\n",
        f"{ORIGIN}\n7\n",
    ],
)
def test_a_signed_text_that_is_no_checkpoint_of_this_log_is_refused(text: str) -> None:
    note = sign_note(text.format(root=base64.b64encode(ROOT).decode()), ORIGIN, KEY)
    with pytest.raises(CheckpointError):
        open_checkpoint(note, ORIGIN, KEY.public)


def test_another_log_or_another_key_is_refused() -> None:
    note = sign_checkpoint(ORIGIN, 7, ROOT, KEY)
    with pytest.raises(CheckpointError):
        open_checkpoint(note, f"{ORIGIN}/internal", KEY.public)
    with pytest.raises(CheckpointError):
        open_checkpoint(note, ORIGIN, SigningKey.generate().public)


def test_a_name_with_a_space_or_plus_signs_nothing() -> None:
    with pytest.raises(ValueError):
        sign_note("text\n", "a b", KEY)
    with pytest.raises(ValueError):
        sign_note("text\n", "a+b", KEY)
    with pytest.raises(ValueError):
        sign_note("no newline", "a", KEY)


# The cases of transparency-dev/formats proof/tlog_proof_test.go.
def test_a_proof_reads_as_the_specification_writes_it() -> None:
    path = [leaf_hash(b"1"), leaf_hash(b"2")]
    encoded = "".join(base64.b64encode(item).decode() + "\n" for item in path)
    proof = format_proof(5, path, "test checkpoint\n")
    assert proof == f"c2sp.org/tlog-proof@v1\nindex 5\n{encoded}\ntest checkpoint\n"
    assert format_proof(0, [], "checkpoint\n") == (
        "c2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint\n"
    )
    parsed = parse_proof(proof)
    assert parsed == InclusionProof(5, tuple(path), "test checkpoint\n")
    extra = base64.b64encode(b"extra information").decode()
    assert format_proof(10, path[:1], "checkpoint data\n", b"extra information") == (
        f"c2sp.org/tlog-proof@v1\nextra {extra}\nindex 10\n{encoded[:45]}\ncheckpoint data\n"
    )


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=64),
    st.binary(max_size=65_535),
)
def test_a_proof_that_is_written_is_read_again(index: int, path: list[bytes], extra: bytes) -> None:
    note = sign_checkpoint(ORIGIN, 7, ROOT, KEY)
    assert parse_proof(format_proof(index, path, note, extra)) == InclusionProof(
        index, tuple(path), note, extra
    )


@given(st.text() | st.text("—\n +/=AZ09e", max_size=200))
def test_no_text_is_opened_by_accident(text: str) -> None:
    with pytest.raises(CheckpointError):
        open_checkpoint(text, ORIGIN, KEY.public)
    with pytest.raises(CheckpointError):
        parse_proof(text)


@pytest.mark.parametrize(
    "proof",
    [
        "not a proof at all",
        "c2sp.org/tlog-proof@v1\n",
        "wrong-header\nindex 0\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex notanumber\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nAAAA\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex -5\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 9223372036854775808\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nextra !\nindex 0\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nextra AAAA\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nextra AAAA\nextra AAAA\nindex 0\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n" + "A" * 170_000 + "\n\ncheckpoint\n",
    ],
)
def test_a_malformed_proof_is_refused(proof: str) -> None:
    with pytest.raises(CheckpointError):
        parse_proof(proof)


def test_an_empty_log_has_a_checkpoint() -> None:
    note = sign_checkpoint(ORIGIN, 0, EMPTY_ROOT, KEY)
    assert open_checkpoint(note, ORIGIN, KEY.public).root == EMPTY_ROOT
