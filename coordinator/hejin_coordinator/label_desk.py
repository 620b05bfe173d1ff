"""Answer a node's question for outcomes, after its ledger has proven that it logged the question.

    1. check the question: sizes, signature, definition, and the cosigned `labels.ask` that names it
    2. one transaction: record the session, within the node's daily number; fsync
    3. intersect, by a scalar that is drawn for it
    4. one transaction: log `labels.answer` with the transcript's hash; fsync
    5. answer

A crash in between costs the node a session, and nothing is answered twice.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog

from hejin_coordinator import label_sessions
from hejin_coordinator.errors import (
    LabelsRefusedError,
    LabelsUnknownError,
    LabelsUnprovenError,
)
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.outcomes import Book, books, definition_of, find_book, open_book
from hejin_coordinator.proofs import check_cosigned
from hejin_models.errors import DefinitionError
from hejin_models.label_definitions import LabelDefinition
from hejin_privacy.label_messages import LabelAnswer, LabelQuestion
from hejin_privacy.set_intersection import POINT_BYTES, Answer, answer
from hejin_trust.canonical import time_text
from hejin_trust.checkpoint import Checkpoint, CheckpointError, parse_proof
from hejin_trust.database import reading, writing
from hejin_trust.entries import EntryError, parse
from hejin_trust.envelope import (
    LABELS_ANSWER,
    LABELS_QUESTION,
    Opened,
    open_envelope,
    seal,
)
from hejin_trust.errors import HejinError
from hejin_trust.members import Member
from hejin_trust.merkle import ProofError, check_inclusion
from hejin_trust.one_history import FrozenError
from hejin_trust.witness import ClockOffError, Witness
from hejin_trust.worth_logging import WorthLogging

LONGEST_ENTRY = 64 << 10
LONGEST_ENVELOPE = 16 << 10
"""Bytes of what comes beside the points, looked at before anything is parsed."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a node sends: its signed question, its points, its `labels.ask` entry with a proof."""

    question: bytes
    points: bytes
    entry: bytes
    proof: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What goes back: the signed answer, the node's points in order, the sealed items."""

    answer: bytes
    points: bytes
    items: bytes


@dataclass(frozen=True, slots=True)
class _Checked:
    question: LabelQuestion
    opened: Opened
    book: Book
    proven: Checkpoint


class LabelDesk:
    """The bank's answers to all nodes; safe to use from several threads, one answer at a time."""

    def __init__(self, home: CoordinatorHome, witness: Witness) -> None:
        """Answer by the outcomes in `home`; `witness` is of the bank's own logs."""
        self._home, self._witness = home, witness
        self._worth: dict[str, WorthLogging] = {}
        # An answer keeps a core busy for seconds: two at once would take as long together.
        self._turn = threading.Lock()

    def describe(self, definition: str) -> tuple[bytes, tuple[str, ...]]:
        """Return a definition's file, and the periods of which there are outcomes by it.

        raises   LabelsUnknownError: the bank has none by that definition
        """
        with reading(self._home.database) as connection:
            periods = tuple(book.period for book in books(connection, definition))
        if not periods:
            raise _unknown()
        return self._definition(definition)[1], periods

    def answer(self, node: Member, asked: Asked) -> Answered:
        """Return the answer to a node's question; what is refused is logged.

        raises   LabelsRefusedError and what it is the base of, PointError, EnvelopeError,
                 DocumentError, CosignatureMissingError, CosignatureStaleError, ClockOffError
        """
        try:
            self._witness.check_clock()
            return self._answer(node, asked)
        except HejinError as refusal:
            self._log_refusal(node, asked, refusal)
            raise

    def _answer(self, node: Member, asked: Asked) -> Answered:
        home = self._home
        checked = self._check(node, asked)
        question = checked.question
        with self._turn:
            with writing(home.database) as connection:
                label_sessions.begin(
                    connection, question, node.id, home.now(), home.settings.label_sessions_a_day
                )
                outcomes = open_book(home, connection, checked.book)
            declared = home.settings.outcomes_declared
            context = bytes.fromhex(checked.opened.digest)
            given = answer(asked.points, question.slots, outcomes, declared, context)
        return self._log_answer(node, checked, given, declared)

    def _check(self, node: Member, asked: Asked) -> _Checked:
        """Step 1; nothing is kept of what does not pass."""
        if len(asked.question) > LONGEST_ENVELOPE or len(asked.entry) > LONGEST_ENTRY:
            raise _refused("it is longer than a question can be", "其长度超过询问应有的长度")
        opened = open_envelope(
            asked.question, LABELS_QUESTION, node.identity_key, node.id,
            max_bytes=LONGEST_ENVELOPE,
        )  # fmt: skip
        question = LabelQuestion.parse(opened.body)
        if question.bank != self._home.member_id:
            raise _refused("it is for another bank", "其对象是另一家银行")
        declared = node.size_band[1] if node.size_band else 0
        if question.slots != declared or len(asked.points) != declared * POINT_BYTES:
            raise _refused(
                f"it has {len(asked.points) // POINT_BYTES} points for {question.slots} slots, the"
                f" charter declares {declared} enterprises for this node",
                f"其含 {len(asked.points) // POINT_BYTES} 个点、{question.slots} 个位置，而章程为该"
                f"节点申报 {declared} 家企业",
            )
        if hashlib.sha256(asked.points).hexdigest() != question.points:
            raise _refused("its points are not those that were signed", "其点与签名不符")
        proven = self._check_proof(node, question, asked)
        return _Checked(question, opened, self._book(question), proven)

    def _check_proof(self, node: Member, question: LabelQuestion, asked: Asked) -> Checkpoint:
        """Raise unless the node's cosigned ledger holds a `labels.ask` for exactly this question.

        The regulator cosigns it only over a `labels.request` whose number of enterprises does not
        exceed the authorisations in force.
        """
        try:
            proof = parse_proof(asked.proof)
            entry = parse(asked.entry)
            checkpoint = check_cosigned(proof.checkpoint, node, self._home.charter, self._reference)
            check_inclusion(entry.raw, proof.index, checkpoint.size, proof.path, checkpoint.root)
        except (CheckpointError, EntryError, ProofError) as reason:
            raise _unproven(reason.text.en, reason.text.zh) from reason
        body = entry.body
        if entry.type != "labels.ask" or any(body[key] != told for key, told in
                                             _logged(question).items()):  # fmt: skip
            raise _unproven(
                "its entry is of another question; the node has to log each before it asks",
                "其条目对应另一次询问；节点须先记账后询问",
            )
        return checkpoint

    def _book(self, question: LabelQuestion) -> Book:
        with reading(self._home.database) as connection:
            book = find_book(connection, question.definition, question.period)
        if book is None:
            raise _unknown()
        definition, _ = self._definition(question.definition)
        if definition.digest != question.definition_hash:
            raise _refused(
                "it means another definition of that name; ask for the bank's again",
                "其所指定义与本银行同名定义不同；请重新获取本银行的定义",
            )
        return book

    def _definition(self, named: str) -> tuple[LabelDefinition, bytes]:
        """Return a definition that there are outcomes by; what is wrong with it is the bank's."""
        try:
            return definition_of(self._home, named)
        except DefinitionError as reason:
            _log.error("definition-unusable", reason=reason.text.en)
            raise _unknown() from reason

    def _log_answer(
        self, node: Member, checked: _Checked, given: Answer, declared: int
    ) -> Answered:
        home, question = self._home, checked.question
        document = LabelAnswer(
            session=question.session,
            node=node.id,
            question=checked.opened.digest,
            items=declared,
            points=hashlib.sha256(given.points).hexdigest(),
            sealed=hashlib.sha256(given.items).hexdigest(),
            time=time_text(home.now()),
        )
        envelope = seal(LABELS_ANSWER, document.body(), home.identity, home.member_id)
        own = home.identity.public
        transcript = open_envelope(envelope, LABELS_ANSWER, own, home.member_id).digest
        with writing(home.database) as connection:
            label_sessions.end(connection, question.session, transcript)
            home.release_log.append(
                connection,
                "labels.answer",
                {
                    "session": question.session,
                    "node": node.id,
                    "definition": question.definition,
                    "definition_hash": question.definition_hash,
                    "period": question.period,
                    "slots": question.slots,
                    "items": declared,
                    "query": question.points,
                    "transcript": transcript,
                    "proof_size": checked.proven.size,
                    "proof_root": checked.proven.root.hex(),
                },
            )
        _log.info("labels-answered", node=node.id, session=question.session[:8])
        return Answered(envelope, given.points, given.items)

    def _reference(self) -> datetime:
        """Return the time by the regulator's clock, as far as it is known."""
        offset = self._witness.offset
        return self._home.now() if offset is None else self._home.now() + offset

    def _log_refusal(self, node: Member, asked: Asked, refusal: HejinError) -> None:
        """Nothing is logged by a clock that is off, nor beside a mirror with another history."""
        request = hashlib.sha256(asked.question[:LONGEST_ENVELOPE]).hexdigest()
        worth = self._worth.setdefault(node.id, WorthLogging(node.id))
        if not worth.is_worth(request, refusal.code):
            return
        _log.warning("labels-refused", node=node.id, code=refusal.code, reason=refusal.text.en)
        if isinstance(refusal, (ClockOffError, FrozenError)):
            return
        body = {"request": request, "code": refusal.code, "peer": node.id}
        try:
            with writing(self._home.database) as connection:
                self._home.internal_log.append(connection, "refusal", body)
        except HejinError as reason:  # a full disk, a clock that went back
            _log.error("refusal-not-logged", reason=reason.text.en)


def _logged(question: LabelQuestion) -> Mapping[str, object]:
    """Return what the node's entry must say of a question."""
    shared = ("session", "bank", "definition", "definition_hash", "period", "slots")
    return {**{name: getattr(question, name) for name in shared}, "query": question.points}


def _refused(en: str, zh: str) -> LabelsRefusedError:
    return LabelsRefusedError(
        f"the question for outcomes is refused: {en}", f"标签询问被拒绝：{zh}"
    )


def _unproven(en: str, zh: str) -> LabelsUnprovenError:
    return LabelsUnprovenError(
        f"the node's ledger does not prove its question: {en}", f"节点账本未能证明其询问：{zh}"
    )


def _unknown() -> LabelsUnknownError:
    return LabelsUnknownError(
        "this bank has no outcomes by that definition and of that period: ask it which it has",
        "本银行没有该定义与期间的标签：请向其询问现有哪些",
    )
