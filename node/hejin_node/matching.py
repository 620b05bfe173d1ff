"""Ask a bank for outcomes by private set intersection, after committing to whom it asks for.

    1. get the bank's definition; choose the enterprises whose authorisation names the outcome
    2. draw the session's secrets, make the points
    3. one transaction: check that the set does not exceed the authorisations in force, log
       `labels.request` and `labels.ask`, keep the secrets; fsync
    4. the regulator mirrors the logs up to there and cosigns; it refuses a larger set as well
    5. ask the bank, with the proof of `labels.ask`
    6. one transaction: store the labels of those that are still authorised, log `labels`; fsync

A crash in between costs a session: the next one draws everything anew.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from hejin_models.label_definitions import LabelDefinition
from hejin_node import label_sessions
from hejin_node.consent import entitled
from hejin_node.errors import LabelsExceedError, MatchingError
from hejin_node.home import NodeHome
from hejin_node.ingest import IngestReport
from hejin_node.label_sessions import LabelSession
from hejin_node.labels import COLUMNS, judged, log_labels
from hejin_node.manifest import Counts
from hejin_node.quarantine import quarantine
from hejin_node.snapshot import LabelSpec
from hejin_privacy.label_messages import LONGEST_NAME, LabelAnswer, LabelQuestion
from hejin_privacy.set_intersection import (
    ITEM_BYTES,
    MOST_SLOTS,
    Answer,
    Asking,
    ask,
    open_answer,
)
from hejin_trust.authorisation import OUTCOME, OUTCOME_PURPOSE
from hejin_trust.canonical import time_from, time_text
from hejin_trust.checkpoint import format_proof
from hejin_trust.database import reading, writing
from hejin_trust.entries import Entry
from hejin_trust.envelope import LABELS_ANSWER, LABELS_QUESTION, Opened, open_envelope, seal
from hejin_trust.merkle import leaf_hash
from hejin_trust.witness import Witness

_RULES: Final = {0: None, 1: None, None: "label.unreadable"}
"""What a bank's label breaks; another byte than these has `label.range` against it."""


@dataclass(frozen=True, slots=True)
class Described:
    """A bank's label definition, byte for byte, and the periods it has outcomes of."""

    definition: bytes
    periods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What goes to the bank: the signed question, the points, and the proof of its entry."""

    question: bytes
    points: bytes
    entry: bytes
    proof: str


@dataclass(frozen=True, slots=True)
class Given:
    """What comes from the bank: the signed answer, the points in order, the items."""

    answer: bytes
    points: bytes
    items: bytes


class BankDoor(Protocol):
    """A bank's LabelService; every method raises PeerRefused, PeerUnreachable."""

    def describe(self, definition: str) -> Described:
        """Return the bank's definition of that id."""

    def match(self, asked: Asked) -> Given:
        """Return the bank's answer."""


@dataclass(frozen=True, slots=True)
class Matched:
    """What a session brought; asked: enterprises in its slots, labels: outcomes that came back.

    report   what became of them here: new ones loaded, those that contradict known ones in
             quarantine; the rest was known
    """

    session: str
    definition: LabelDefinition
    period: str
    slots: int
    asked: int
    labels: int
    report: IngestReport


@dataclass(frozen=True, slots=True)
class _Begun:
    """A session that is logged; question: its signed envelope, opened."""

    asking: Asking
    points: bytes
    question: LabelQuestion
    envelope: bytes
    opened: Opened
    ask: Entry


def match(
    home: NodeHome, witness: Witness, door: BankDoor, spec: LabelSpec, period: str | None = None
) -> Matched:
    """Ask a bank for the outcomes of the enterprises that have authorised it, and store them.

    witness  of this node's logs, started
    period   one of those that the bank has; None: the only one
    raises   MatchingError, LabelsExceedError; PeerRefused, PeerUnreachable; DefinitionError;
             FrozenError, WitnessUnreachableError, WitnessRefusedError; IntersectionError,
             PointError, EnvelopeError and DocumentError for a bank's answer that is none
    """
    bank = home.charter.admitted(spec.bank, "bank")
    definition, chosen_period = _agreed(home, door.describe(spec.definition), spec, period)
    with reading(home.database) as connection:
        chosen = authorised(connection, spec.bank, home.now())
    if not chosen:
        raise MatchingError(
            f"no enterprise has authorised this node to learn its outcome from {spec.bank}: an"
            " authorisation for model-training has to name the category outcome",
            f"没有企业授权本节点向 {spec.bank} 了解其违约结果：用于 model-training 的授权须列明类别"
            " outcome",
        )
    begun = begin(home, definition, spec, chosen_period, chosen)
    given = door.match(_asked(home, witness, begun))
    answer, opened = _checked(given, begun, bank.identity_key, bank.id, home.member_id)
    found = open_answer(
        begun.asking,
        Answer(given.points, given.items),
        answer.items,
        bytes.fromhex(begun.opened.digest),
    )
    report = _store(home, spec, chosen_period, begun.question.session, opened.digest, found)
    return Matched(
        begun.question.session,
        definition,
        chosen_period,
        begun.question.slots,
        len(chosen),
        len(found),
        report,
    )


def authorised(connection: Connection, bank: str, at: datetime) -> list[str]:
    """Return the enterprises of which a bank may be asked now: their grant names the outcome."""
    return sorted(
        entitled(
            connection, purpose=OUTCOME_PURPOSE, bank=bank, categories={OUTCOME}, features=(), at=at
        )
    )


def begin(
    home: NodeHome,
    definition: LabelDefinition,
    spec: LabelSpec,
    period: str,
    chosen: Collection[str],
) -> _Begun:
    """Steps 2 and 3: draw a session for the chosen enterprises, and log whom it is for.

    raises   LabelsExceedError (logged as a refusal): not all of them are authorised now;
             MatchingError: there are more than the charter declares for this node
    """
    slots = _slots(home, len(chosen))
    session = secrets.token_hex(16)
    asking = ask(chosen, slots)
    points = asking.question()
    question = LabelQuestion(
        session=session,
        bank=spec.bank,
        definition=definition.id,
        definition_hash=definition.digest,
        period=period,
        slots=slots,
        points=hashlib.sha256(points).hexdigest(),
        time=time_text(home.now()),
    )
    envelope = seal(LABELS_QUESTION, question.body(), home.identity, home.member_id)
    own = home.identity.public
    opened = open_envelope(envelope, LABELS_QUESTION, own, home.member_id)
    try:
        entry = _log_question(home, question, asking, chosen)
    except LabelsExceedError as refusal:
        body = {"request": opened.digest, "code": refusal.code, "peer": spec.bank}
        with writing(home.database) as connection:
            home.internal_log.append(connection, "refusal", body)
        raise
    return _Begun(asking, points, question, envelope, opened, entry)


def _log_question(
    home: NodeHome, question: LabelQuestion, asking: Asking, chosen: Collection[str]
) -> Entry:
    """Step 3; returns the `labels.ask` entry."""
    slots = label_sessions.slots_of(asking, home.pseudonym_key)
    shared: Mapping[str, object] = {
        "session": question.session,
        "bank": question.bank,
        "definition": question.definition,
        "definition_hash": question.definition_hash,
        "period": question.period,
        "root": label_sessions.root_over(asking, slots).hex(),
        "slots": question.slots,
    }
    with writing(home.database) as connection:
        request = home.internal_log.append(
            connection, "labels.request", {**shared, "size": len(chosen)}
        )
        # By the entry's own time: so the regulator counts, too.
        allowed = authorised(connection, question.bank, time_from(request.time))
        strangers = len(set(chosen).difference(allowed))
        if strangers or len(chosen) > len(allowed):
            raise LabelsExceedError(len(chosen), strangers)
        told = {**shared, "query": question.points, "request": leaf_hash(request.raw).hex()}
        entry = home.release_log.append(connection, "labels.ask", told)
        label_sessions.keep(
            connection,
            LabelSession(
                session=question.session,
                bank=question.bank,
                definition=question.definition,
                definition_hash=question.definition_hash,
                period=question.period,
                time=question.time,
                slots=question.slots,
                size=len(chosen),
                request=request.seq,
                ask=entry.seq,
                transcript=None,
            ),
            asking,
            slots,
            home.snapshot_key,
        )
    return entry


def _slots(home: NodeHome, size: int) -> int:
    """Return the declared size, the upper end of the charter's band: what the bank sees."""
    band = home.membership.me.size_band
    assert band is not None, "a node has a size band"
    if size > band[1] or band[1] > MOST_SLOTS:
        raise MatchingError(
            f"{size} enterprises do not fit into the {band[1]} that the charter declares for this"
            f" node, at most {MOST_SLOTS}: ask the regulator for a larger size band",
            f"{size} 家企业超出章程为本节点申报的 {band[1]} 家（至多 {MOST_SLOTS} 家）："
            "请向监管方申请更大的规模区间",
        )
    return band[1]


def _agreed(
    home: NodeHome, described: Described, spec: LabelSpec, period: str | None
) -> tuple[LabelDefinition, str]:
    """Return the definition and the period that a session will be of."""
    definition = LabelDefinition.parse(described.definition)
    if definition.id != spec.definition:
        raise MatchingError(
            f"{spec.bank} sent another definition than was asked for: ask its operator",
            f"{spec.bank} 发来的定义与所请求的不同：请联系其运维人员",
        )
    if not all(len(one) <= LONGEST_NAME and one.isprintable() for one in described.periods):
        raise MatchingError(
            f"{spec.bank} names periods that are none, of up to {LONGEST_NAME} characters in one"
            " line: ask its operator",
            f"{spec.bank} 的期间名称不合规（应为至多 {LONGEST_NAME} 个字符的单行文本）："
            "请联系其运维人员",
        )
    with reading(home.database) as connection:
        known = [one for one in label_sessions.sessions(connection)
                 if (one.bank, one.definition) == (spec.bank, spec.definition)]  # fmt: skip
    if any(one.definition_hash != definition.digest for one in known):
        raise MatchingError(
            f"{spec.bank} has changed what {definition.id} means since this node asked first: it"
            " has to give it a new version",
            f"{spec.bank} 在本节点首次询问之后改动了 {definition.id} 的含义：应以新版本发布",
        )
    if period is None and len(described.periods) == 1:
        return definition, described.periods[0]
    if period is None or period not in described.periods:
        listed = ", ".join(one or '""' for one in described.periods[:50])
        raise MatchingError(
            f"{spec.bank} has outcomes of these periods: {listed}; name one with --period",
            f"{spec.bank} 有以下期间的标签：{listed}；请以 --period 指定其一",
        )
    return definition, period


def _asked(home: NodeHome, witness: Witness, begun: _Begun) -> Asked:
    """Step 4; return what goes to the bank."""
    cosigned = witness.cover(begun.ask.seq)
    with reading(home.database) as connection:
        path = home.release_log.inclusion_proof(connection, begun.ask.seq, cosigned.checkpoint.size)
    proof = format_proof(begun.ask.seq, path, cosigned.note)
    return Asked(begun.envelope, begun.points, begun.ask.raw, proof)


def _checked(
    given: Given, begun: _Begun, bank_key: bytes, bank: str, own: str
) -> tuple[LabelAnswer, Opened]:
    """Return the bank's signed word on exactly these bytes, for exactly this question."""
    opened = open_envelope(given.answer, LABELS_ANSWER, bank_key, bank)
    answer = LabelAnswer.parse(opened.body)
    told = (answer.session, answer.node, answer.question)
    if told != (begun.question.session, own, begun.opened.digest):
        raise MatchingError(
            f"the answer of {bank} is to another question: nothing was stored; ask again",
            f"{bank} 的应答对应另一次询问：未存储任何内容；请重新询问",
        )
    hashes = [hashlib.sha256(part).hexdigest() for part in (given.points, given.items)]
    if hashes != [answer.points, answer.sealed] or len(given.items) != answer.items * ITEM_BYTES:
        raise MatchingError(
            f"what {bank} sent is not what it signed: nothing was stored; ask again",
            f"{bank} 发来的内容与其签名不符：未存储任何内容；请重新询问",
        )
    return answer, opened


def _store(
    home: NodeHome,
    spec: LabelSpec,
    period: str,
    session: str,
    transcript: str,
    found: Mapping[str, int | None],
) -> IngestReport:
    """Step 6: labels of enterprises that revoked meanwhile are not kept."""
    began = time.monotonic()
    warehouse = home.warehouse
    with warehouse.loading("labels", spec.dataset, transcript, f"match:{session[:8]}") as work:
        # Now, not before: it may have waited for another load.
        with reading(home.database) as connection:
            still = authorised(connection, spec.bank, home.now())
        given = _given({code: found[code] for code in still if code in found})
        raw = given.select(["enterprise", "label"])
        checked = judged(warehouse, spec, given)
        # What is known already is no fault of a bank that is asked again.
        news = pc.fill_null(pc.not_equal(checked["_rule"], "label.duplicate"), True)
        raw, checked = raw.filter(news), checked.filter(news)
        good = checked.filter(pc.is_null(checked["_rule"]))
        taken = work.writer("labels", spec.dataset, COLUMNS).write(good)
        counts = quarantine(work, spec.dataset, raw, checked)
        work.complete(Counts(checked.num_rows, taken.num_rows, counts, 0))
        with writing(home.database) as connection:
            work.publish(connection)
            log_labels(home.internal_log, connection, spec, period, transcript)
            label_sessions.answered(connection, session, transcript)
    return IngestReport(
        spec.dataset,
        transcript,
        already=False,
        loaded=taken.num_rows,
        quarantined=work.counts.quarantined,
        replaced=0,
        seconds=time.monotonic() - began,
    )


def _given(labels: Mapping[str, int | None]) -> pa.Table:
    """Return labels as `judged` takes them."""
    rules = [_RULES.get(label, "label.range") for label in labels.values()]
    return pa.table(
        {
            "_row": pa.array(range(1, len(labels) + 1), pa.int64()),
            "enterprise": pa.array(list(labels), pa.string()),
            "label": pa.array(list(labels.values()), pa.int64()),
            "_odd": pa.array([0] * len(labels), pa.int64()),
            "_rule": pa.array(rules, pa.string()),
        }
    )
