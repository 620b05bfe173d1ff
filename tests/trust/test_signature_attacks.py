"""No signature made for one purpose serves another, even under one and the same key."""

from __future__ import annotations

import ast
import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hejin_trust import canonical, envelope
from hejin_trust.certificates import make_request as certificate_request
from hejin_trust.checkpoint import (
    Checkpoint,
    CheckpointError,
    key_id,
    open_checkpoint,
    open_note,
    sign_note,
)
from hejin_trust.cosignature import cosign, cosigner_id, open_cosigned, witness_name
from hejin_trust.enrolment import EnrolmentError, _log_proof, make_request, open_request
from hejin_trust.envelope import EnvelopeError, open_envelope, pae, seal
from hejin_trust.errors import HejinError
from hejin_trust.keys import SigningKey, new_tls_key
from hejin_trust.merkle import leaf_hash
from hejin_trust.text import Text

ROOT = Path(__file__).parents[2]
ROOMS = ("trust", "privacy", "models", "node", "coordinator", "regulator", "sandbox")

KEY, OTHER = (SigningKey.from_seed(bytes([n]) * 32) for n in (7, 8))
TLS = new_tls_key()
MEMBER = "bank-a"
BODY = {"v": 1, "run": "ab" * 16}
ORIGIN = "hejin/hebei/bank/bank-a"
WITNESS = witness_name("hebei", "regulator")
TEXT = Checkpoint(ORIGIN, 7, leaf_hash(b"one")).text()
STAMP = 1_795_000_000
AT = datetime.fromtimestamp(STAMP, UTC)


@dataclass(frozen=True)
class Purpose:
    """One thing that an Ed25519 key signs here: the bytes, who reads it, and how it refuses."""

    signs: bytes
    read: Callable[[bytes], object]
    code: str


def document(kind: str) -> Purpose:
    payload = canonical.encode(BODY)

    def read(signature: bytes) -> object:
        outer = {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": kind,
            "signatures": [{"keyid": MEMBER, "sig": base64.b64encode(signature).decode()}],
        }
        return open_envelope(canonical.encode(outer), kind, KEY.public, MEMBER)

    return Purpose(pae(kind, payload), read, "bad-envelope")


def line(name: str, data: bytes) -> str:
    return f"— {name} {base64.b64encode(data).decode()}\n"


def read_checkpoint(signature: bytes) -> object:
    own = line(ORIGIN, key_id(ORIGIN, KEY.public) + signature)
    return open_checkpoint(f"{TEXT}\n{own}", ORIGIN, KEY.public)


def read_cosigned(signature: bytes) -> object:
    stamped = cosigner_id(WITNESS, KEY.public) + STAMP.to_bytes(8, "big") + signature
    note = sign_note(TEXT, ORIGIN, OTHER) + line(WITNESS, stamped)
    return open_cosigned(note, ORIGIN, OTHER.public, WITNESS, KEY.public)


def read_enrolment(signature: bytes) -> object:
    """Read a request to enrol KEY as a log key, the proof of which is `signature`."""
    body = {
        "v": 1,
        "member": MEMBER,
        "role": "bank",
        "name": {"en": "B", "zh": "行"},
        "identity_key": OTHER.public.hex(),
        "log_key": KEY.public.hex(),
        "log_proof": signature.hex(),
        "request": certificate_request(MEMBER, TLS),
        "time": canonical.time_text(AT),
        "size_band": [],
        "address": "",
    }
    return open_request(seal(envelope.ENROLMENT, body, OTHER, MEMBER))


PURPOSES = {
    **{kind: document(kind) for kind in sorted(envelope.PAYLOAD_TYPES)},
    "checkpoint": Purpose(TEXT.encode(), read_checkpoint, "checkpoint-invalid"),
    "cosignature": Purpose(
        f"cosignature/v1\ntime {STAMP}\n{TEXT}".encode(), read_cosigned, "checkpoint-invalid"
    ),
    "log key's proof": Purpose(_log_proof(MEMBER, OTHER.public), read_enrolment, "bad-enrolment"),
}


@pytest.mark.parametrize("name", PURPOSES)
def test_a_signature_for_one_purpose_is_refused_for_every_other(name: str) -> None:
    purpose = PURPOSES[name]
    purpose.read(KEY.sign(purpose.signs))
    for other, made in PURPOSES.items():
        if other == name:
            continue
        with pytest.raises(HejinError, match=r"signature|signed|cosignature") as refused:
            purpose.read(KEY.sign(made.signs))
        assert refused.value.code == purpose.code


@pytest.mark.parametrize("name", sorted(envelope.PAYLOAD_TYPES))
def test_a_document_of_one_type_opens_as_no_other_whatever_its_label_says(name: str) -> None:
    sealed = seal(name, BODY, KEY, MEMBER)
    for other in envelope.PAYLOAD_TYPES - {name}:
        with pytest.raises(EnvelopeError, match="not of type"):
            open_envelope(sealed, other, KEY.public, MEMBER)
        relabelled = {**canonical.decode(sealed), "payloadType": other}
        with pytest.raises(EnvelopeError, match="signature"):
            open_envelope(canonical.encode(relabelled), other, KEY.public, MEMBER)


def test_what_is_signed_tells_in_its_first_bytes_what_it_is_for() -> None:
    heads = (
        b"DSSEv1 ",
        b"cosignature/v1\n",
        b"hejin/enrolment/v1/log-key\0",
        ORIGIN.encode() + b"\n",
    )
    for purpose in PURPOSES.values():
        assert sum(purpose.signs.startswith(head) for head in heads) == 1
    # Nor is a log ever called so that its checkpoint would begin like anything else.
    for text in (
        f"cosignature/v1\ntime {STAMP}\n{TEXT}",
        "DSSEv1 13 hejin/plan/v1 2 {}\n7\nAA==\n",
    ):
        name, origin = "x", text.partition("\n")[0]
        assert open_note(sign_note(text, name, KEY), name, KEY.public) == text
        signature = line(
            origin.replace(" ", ""), key_id(origin, KEY.public) + KEY.sign(text.encode())
        )
        with pytest.raises(CheckpointError):
            open_checkpoint(f"{text}\n{signature}", origin, KEY.public)


def test_a_key_that_logs_and_cosigns_has_two_ids_and_neither_serves_for_the_other() -> None:
    """The regulator's log key cosigns under the name that a log of its own would have."""
    own, stamped = key_id(WITNESS, KEY.public), cosigner_id(WITNESS, KEY.public)
    assert own != stamped
    signature, log_note = KEY.sign(TEXT.encode()), sign_note(TEXT, ORIGIN, OTHER)
    stamp = base64.b64decode(cosign(log_note, WITNESS, KEY, AT).split(" ")[2])[4:]

    def cosigned(data: bytes) -> object:
        note = log_note + line(WITNESS, data)
        return open_cosigned(note, ORIGIN, OTHER.public, WITNESS, KEY.public)

    def logged(data: bytes) -> str:
        return open_note(f"{TEXT}\n{line(WITNESS, data)}", WITNESS, KEY.public)

    cosigned(stamped + stamp)
    assert logged(own + signature) == TEXT
    for data in (own + stamp, own + signature, stamped + signature, stamped + stamp[8:]):
        with pytest.raises(CheckpointError):
            cosigned(data)
    for data in (stamped + stamp, stamped + signature, own + stamp, own + stamp[8:]):
        with pytest.raises(CheckpointError):
            logged(data)


def test_a_member_cannot_cosign_its_own_log_in_the_witness_s_name() -> None:
    note = sign_note(TEXT, ORIGIN, OTHER)
    for name, key in ((WITNESS, OTHER), (ORIGIN, OTHER), (ORIGIN, KEY)):
        with pytest.raises(CheckpointError, match="0 cosignatures"):
            open_cosigned(
                note + cosign(note, name, key, AT), ORIGIN, OTHER.public, WITNESS, KEY.public
            )


def test_one_member_s_proof_of_a_log_key_enrols_no_other_member() -> None:
    made = make_request(
        member="node-a",
        role="node",
        name=Text("A", "甲"),
        identity=OTHER,
        log=KEY,
        tls_key_pem=TLS,
        at=AT,
        size_band=(1, 10),
    )
    body = open_envelope(made, envelope.ENROLMENT, OTHER.public).body
    with pytest.raises(EnrolmentError, match="signature"):
        read_enrolment(bytes.fromhex(str(body["log_proof"])))


# -- the code itself: the matrix above is of everything that is signed and read ---------------


def calls(*names: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield (file, call) of each call in the rooms of a function or method of these names."""
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Call) and named(node.func) in names:
                    yield file.name, node


def named(expression: ast.expr) -> str:
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def kind_of(expression: ast.expr) -> str | None:
    """Return the payload type that an expression names, or None."""
    value = vars(envelope).get(named(expression))
    return value if value in envelope.PAYLOAD_TYPES else None


def test_every_type_is_written_and_read_and_every_reader_takes_one_type() -> None:
    readers = calls("open_envelope", "open_self_signed", "_own")
    read = [(file, kind_of(call.args[1])) for file, call in readers]
    # The bank's rounds hand the type on to a helper, whose callers are among those looked at.
    assert [file for file, kind in read if kind is None] == ["rounds.py"]
    # Enterprises sign authorisations with tools of their own, over the bytes of `pae`.
    made = envelope.PAYLOAD_TYPES - {envelope.AUTHORISATION}
    assert {kind for _, kind in read} - {None} == made
    written = {kind_of(call.args[0]) for _, call in calls("seal") if len(call.args) == 4}
    assert written == made
    ((_, spelled),) = ((file, call) for file, call in calls("pae") if file == "authorisation.py")
    assert kind_of(spelled.args[0]) == envelope.AUTHORISATION


def test_every_place_that_signs_is_in_the_matrix() -> None:
    """Besides these, certificates are signed with P-256 keys, which sign nothing else."""
    signing = sorted(file for file, call in calls("sign") if len(call.args) == 1)
    assert signing == ["checkpoint.py", "cosignature.py", "enrolment.py", "envelope.py", "keys.py"]
