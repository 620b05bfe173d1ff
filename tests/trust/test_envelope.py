"""Envelopes: the DSSE vector, and nothing opens that was not sealed for it."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_trust import canonical, envelope
from hejin_trust.envelope import EnvelopeError, open_envelope, pae, peek_signer, seal
from hejin_trust.keys import SigningKey

KEY = SigningKey.from_seed(b"k" * 32)
BODY = {"purpose": "信用", "rounds": 3}


# github.com/secure-systems-lab/dsse v1.0.0 protocol.md, "Test Vectors".
def test_pae_is_that_of_the_dsse_specification() -> None:
    assert (
        pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(a=st.tuples(st.text(), st.binary()), b=st.tuples(st.text(), st.binary()))
def test_two_documents_never_share_signed_bytes(a: tuple[str, bytes], b: tuple[str, bytes]) -> None:
    assert (pae(*a) == pae(*b)) == (a == b)


def test_a_sealed_document_opens_for_its_type_key_and_signer() -> None:
    data = seal(envelope.PLAN, BODY, KEY, "bank-a")
    opened = open_envelope(data, envelope.PLAN, KEY.public, "bank-a")
    assert opened.body == BODY
    assert opened.payload == canonical.encode(BODY)
    assert opened.digest == hashlib.sha256(opened.payload).hexdigest()
    assert opened.signer == peek_signer(data) == "bank-a"
    assert open_envelope(data, envelope.PLAN, KEY.public).signer == "bank-a"


def test_sealing_is_deterministic_so_that_a_repeat_has_the_same_bytes() -> None:
    assert seal(envelope.PLAN, BODY, KEY, "a") == seal(envelope.PLAN, BODY, KEY, "a")


@pytest.mark.parametrize("other", sorted(envelope.PAYLOAD_TYPES - {envelope.PLAN}))
def test_a_signature_of_one_type_is_not_one_of_another(other: str) -> None:
    data = seal(envelope.PLAN, BODY, KEY, "bank-a")
    with pytest.raises(EnvelopeError, match="not of type"):
        open_envelope(data, other, KEY.public)
    relabelled = json.loads(data)
    relabelled["payloadType"] = other
    with pytest.raises(EnvelopeError, match="signature"):
        open_envelope(canonical.encode(relabelled), other, KEY.public)


def test_another_key_or_signer_is_refused() -> None:
    data = seal(envelope.PLAN, BODY, KEY, "bank-a")
    with pytest.raises(EnvelopeError, match="signature"):
        open_envelope(data, envelope.PLAN, SigningKey.generate().public)
    with pytest.raises(EnvelopeError, match="not signed by bank-b"):
        open_envelope(data, envelope.PLAN, KEY.public, "bank-b")


@given(data=st.data())
def test_no_flipped_bit_opens_as_the_same_signer(data: st.DataObject) -> None:
    sealed = seal(envelope.PLAN, BODY, KEY, "bank-a")
    position = data.draw(st.integers(0, len(sealed) * 8 - 1))
    flipped = bytearray(sealed)
    flipped[position // 8] ^= 1 << position % 8
    with pytest.raises(EnvelopeError):
        open_envelope(bytes(flipped), envelope.PLAN, KEY.public, "bank-a")


def _edited(**changes: object) -> bytes:
    return canonical.encode({**json.loads(seal(envelope.PLAN, BODY, KEY, "bank-a")), **changes})


SIGNATURES = json.loads(seal(envelope.PLAN, BODY, KEY, "bank-a"))["signatures"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="no-fields"),
        pytest.param(b"[]", id="no-object"),
        pytest.param(seal(envelope.PLAN, BODY, KEY, "bank-a") + b" ", id="trailing-space"),
        pytest.param(_edited(extra="x"), id="unknown-field"),
        pytest.param(_edited(signatures=[]), id="no-signature"),
        pytest.param(_edited(signatures=SIGNATURES * 2), id="two-signatures"),
        pytest.param(_edited(signatures=[{"sig": SIGNATURES[0]["sig"]}]), id="no-keyid"),
        pytest.param(
            _edited(signatures=[{**SIGNATURES[0], "sig": SIGNATURES[0]["sig"].rstrip("=")}]),
            id="unpadded-signature",
        ),
        pytest.param(_edited(payload="!!!!"), id="not-base64"),
        pytest.param(_edited(payload="e30\n="), id="newline-in-base64"),
        pytest.param(_edited(payload="e31="), id="loose-bits-in-base64"),
        pytest.param(_edited(payload=3), id="payload-not-text"),
        pytest.param(_edited(payload="QUFB" * (1 << 19)), id="too-long"),
    ],
)
def test_a_malformed_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        open_envelope(data, envelope.PLAN, KEY.public)


def test_signed_bytes_that_are_not_canonical_are_refused() -> None:
    payload = b'{"b":1, "a":2}'
    signature = KEY.sign(pae(envelope.PLAN, payload))
    data = _edited(
        payload=base64.b64encode(payload).decode(),
        signatures=[{"keyid": "bank-a", "sig": base64.b64encode(signature).decode()}],
    )
    with pytest.raises(EnvelopeError, match="canonical"):
        open_envelope(data, envelope.PLAN, KEY.public)


def test_a_limit_on_length_is_kept() -> None:
    data = seal(envelope.PLAN, {"x": "y" * 1000}, KEY, "bank-a")
    with pytest.raises(EnvelopeError, match="bytes"):
        open_envelope(data, envelope.PLAN, KEY.public, max_bytes=1000)


def test_an_unregistered_type_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="unknown payload type"):
        seal("hejin/other/v1", BODY, KEY, "bank-a")


def test_a_self_signed_document_opens_only_by_the_key_it_names() -> None:
    own = seal(envelope.ENROLMENT, {"key": KEY.public.hex()}, KEY, "node-a")
    assert envelope.open_self_signed(own, envelope.ENROLMENT, "key").signer == "node-a"
    stolen = seal(envelope.ENROLMENT, {"key": SigningKey.generate().public.hex()}, KEY, "node-a")
    for data in (stolen, seal(envelope.ENROLMENT, {"no": "key"}, KEY, "node-a")):
        with pytest.raises(EnvelopeError):
            envelope.open_self_signed(data, envelope.ENROLMENT, "key")
