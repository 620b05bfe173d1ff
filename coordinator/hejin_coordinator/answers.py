"""Check what a node answers: signature, bytes, and the proof that it was charged first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from hejin_coordinator.errors import AnswerRefusedError
from hejin_coordinator.proofs import check_cosigned
from hejin_privacy.mechanism import MAX_NODES
from hejin_privacy.messages import MaskedHeader, Query
from hejin_privacy.secure_sum.bank import check_masked
from hejin_privacy.secure_sum.keys import Roster
from hejin_trust.canonical import child, fraction_body, integer, text
from hejin_trust.charter import Charter
from hejin_trust.checkpoint import Checkpoint, parse_proof
from hejin_trust.entries import parse
from hejin_trust.envelope import REFUSAL, SUM_MASKED, open_envelope
from hejin_trust.fleet import Payload, unpack
from hejin_trust.members import Member
from hejin_trust.merkle import check_inclusion
from hejin_trust.text import Text


@dataclass(frozen=True, slots=True)
class Accepted:
    """A node's release that holds: the noisy sum, and the proof of its reservation.

    signed       the header's bytes as they were signed; header_digest: their SHA-256, hex
    vector       int64[d], mod 2^64
    ciphertexts  its encrypted shares in the roster's order; empty in mode "node"
    proven       the node's log, cosigned, as it proved the reservation in
    """

    node: str
    envelope: bytes
    header: MaskedHeader
    signed: bytes
    header_digest: str
    vector: npt.NDArray[np.int64]
    ciphertexts: tuple[bytes, ...]
    proven: Checkpoint


@dataclass(frozen=True, slots=True)
class Refused:
    """A node's signed refusal; `giver` names whose share it was about, if about one."""

    node: str
    code: str
    text: Text
    giver: str


def read_refusal(payload: Payload, node: str, charter: Charter) -> Refused | None:
    """Return a node's signed refusal, or None if it answered something else."""
    if payload.get("kind") != b"refusal":
        return None
    member = charter.admitted(node, "node")
    opened = open_envelope(payload.get("refusal", b""), REFUSAL, member.identity_key, member.id)
    integer(opened.body, "v", 1, 1)
    reason = child(opened.body, "reason")
    return Refused(
        node=member.id,
        code=text(opened.body, "code", longest=64),
        text=Text(text(reason, "en", longest=1000), text(reason, "zh", longest=1000)),
        giver=text(opened.body, "giver", longest=63) if "giver" in opened.body else "",
    )


def read_answer(
    payload: Payload,
    node: str,
    query: Query,
    digest: str,
    round_ctx: str,
    charter: Charter,
    roster: Roster | None,
    reference: Callable[[], datetime],
) -> Accepted:
    """Return a node's checked answer to `query`; raises HejinError if it holds for nothing.

    digest     SHA-256 of the signed query
    round_ctx  what binds this round's messages, hex
    roster     of the run; None in mode "node"
    reference  returns the time by the regulator's clock, which cosignatures are dated by
    """
    member = charter.admitted(node, "node")
    opened = open_envelope(payload.get("header", b""), SUM_MASKED, member.identity_key, node)
    header = MaskedHeader.parse(opened.body)
    if (header.run, header.round, header.round_ctx, header.node) != (
        query.run,
        query.round,
        round_ctx,
        node,
    ):
        raise _wrong("it answers another round", "答复的是另一轮")
    vector = payload.get("vector", b"")
    dimension = query.mechanism.dimension
    if header.dimension != dimension or len(vector) != 8 * dimension:
        raise _wrong(
            f"it has {len(vector)} bytes, {8 * dimension} were asked for",
            f"长度为 {len(vector)} 字节，应为 {8 * dimension} 字节",
        )
    if hashlib.sha256(vector).hexdigest() != header.vector:
        raise _wrong("its bytes are not those that the node signed", "内容与节点签名不符")
    ciphertexts = unpack(payload.get("shares", b""), MAX_NODES)
    if roster is not None:
        check_masked(roster, node, header.masking, ciphertexts)
    elif header.masking is not None or ciphertexts:
        raise _wrong("it is masked, which was not asked for", "答复带有未要求的掩码")
    proven = _check_reservation(payload, header, query, digest, member, charter, reference)
    return Accepted(
        node=node,
        envelope=payload["header"],
        header=header,
        signed=opened.payload,
        header_digest=opened.digest,
        vector=np.frombuffer(vector, dtype="<i8"),
        ciphertexts=ciphertexts,
        proven=proven,
    )


def _check_reservation(
    payload: Payload,
    header: MaskedHeader,
    query: Query,
    digest: str,
    member: Member,
    charter: Charter,
    reference: Callable[[], datetime],
) -> Checkpoint:
    """Raise unless the node's log holds, and proves, the charge for exactly this query.

    The cost is the node's own word, but it follows from the query: a bank that took less would
    hold a total that the regulator's recomputation (V8) calls unpaid.
    """
    proof = parse_proof(payload.get("proof", b"").decode(errors="replace"))
    checkpoint = check_cosigned(proof.checkpoint, member, charter, reference)
    entry = parse(payload.get("entry", b""))
    check_inclusion(entry.raw, proof.index, checkpoint.size, proof.path, checkpoint.root)
    if entry.type != "reserve" or entry.seq != proof.index or entry.seq != header.reservation:
        raise _wrong("its proof is not of a reservation", "其证明不是预留条目")
    body = entry.body
    expected: Mapping[str, object] = {
        "run": query.run,
        "round": query.round,
        "plan": query.plan,
        "query": digest,
        "part": query.part,
        "round_ctx": header.round_ctx,
        "mechanism": query.mechanism.body(),
        "rho": fraction_body(query.mechanism.cost()),
        "rho_alone": fraction_body(query.mechanism.cost_alone()),
    }
    if any(body[key] != value for key, value in expected.items()):
        raise _wrong(
            "its reservation is for another query, or at another cost",
            "其预留对应另一查询或另一费用",
        )
    return checkpoint


def _wrong(en: str, zh: str) -> AnswerRefusedError:
    return AnswerRefusedError(
        f"a node's answer is refused: {en}; look at that node's log",
        f"节点的答复被拒绝：{zh}；请查看该节点的日志",
    )
