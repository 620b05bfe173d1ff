"""Check what a node answers: signature, bytes, and the proof that it was charged first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from hejin_coordinator.errors import (
    AnswerRefusedError,
    CosignatureMissingError,
    CosignatureStaleError,
)
from hejin_privacy.mechanism import MAX_NODES
from hejin_privacy.messages import MaskedHeader, Query
from hejin_privacy.secure_sum.bank import check_masked
from hejin_privacy.secure_sum.keys import Roster
from hejin_trust.canonical import child, fraction_body, integer, text
from hejin_trust.charter import Charter
from hejin_trust.checkpoint import Checkpoint, CheckpointError, open_checkpoint, parse_proof
from hejin_trust.cosignature import open_cosigned, witness_name
from hejin_trust.entries import parse
from hejin_trust.envelope import REFUSAL, SUM_MASKED, open_envelope
from hejin_trust.fleet import Payload, unpack
from hejin_trust.members import Member
from hejin_trust.merkle import check_inclusion
from hejin_trust.origins import release_origin
from hejin_trust.text import Text
from hejin_trust.witness import MOST_OFF, ClockOffError

OLDEST: Final = timedelta(minutes=10)
"""A cosignature proves a reservation this long (LEDGER section 3, step 6)."""


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
    checkpoint = _check_cosigned(proof.checkpoint, member, charter, reference)
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


def _check_cosigned(
    note: str, member: Member, charter: Charter, reference: Callable[[], datetime]
) -> Checkpoint:
    """Return a node's tree head that the regulator has cosigned just now; LEDGER section 3."""
    origin = release_origin(charter.consortium, "node", member.id)
    checkpoint = open_checkpoint(note, origin, member.log_key)
    regulator = charter.regulator
    witness = witness_name(charter.consortium, regulator.id)
    try:
        cosigned = open_cosigned(note, origin, member.log_key, witness, regulator.log_key)
    except CheckpointError as reason:
        raise CosignatureMissingError(
            f"the regulator has not cosigned the log in which {member.id} proves its reservation:"
            " nothing counts without; see that the node runs this version and reaches the"
            " regulator",
            f"{member.id} 证明预留所用的日志未经监管方会签：不予计入；"
            "请确认该节点运行本版本并能连接监管方",
        ) from reason
    age = reference() - cosigned.time
    if age > OLDEST:
        raise CosignatureStaleError(
            f"the regulator's cosignature under the proof of {member.id} is"
            f" {_seconds(age)} s old, at most {_seconds(OLDEST)} s are allowed: the node is asked"
            " for a fresh one; see that it reaches the regulator",
            f"{member.id} 证明所附的监管方会签已有 {_seconds(age)} 秒，最多允许"
            f" {_seconds(OLDEST)} 秒：将再次索取；请确认该节点能连接监管方",
        )
    if -age > MOST_OFF:
        raise ClockOffError(
            f"the regulator's cosignature under the proof of {member.id} is {_seconds(-age)} s"
            f" ahead of this bank's clock, at most {_seconds(MOST_OFF)} s are allowed: set this"
            " bank's clock",
            f"{member.id} 证明所附的监管方会签比本银行时钟超前 {_seconds(-age)} 秒，"
            f"最多允许 {_seconds(MOST_OFF)} 秒：请校准本银行的时钟",
        )
    return checkpoint


def _seconds(span: timedelta) -> int:
    return round(span.total_seconds())


def _wrong(en: str, zh: str) -> AnswerRefusedError:
    return AnswerRefusedError(
        f"a node's answer is refused: {en}; look at that node's log",
        f"节点的答复被拒绝：{zh}；请查看该节点的日志",
    )
