"""V7 and V5 of labels: whom a node asked a bank for, and that the bank answered that question.

What stands in the slots no ledger shows: that the number of enterprises in them is the node's word
may be looked at on site alone, with the session's scalar and seed.
"""

from __future__ import annotations

from hejin_regulator.check_consent import ConsentCheck
from hejin_regulator.evidence import Evidence
from hejin_regulator.fields import number, text
from hejin_regulator.label_rules import question_of
from hejin_regulator.notebook import place
from hejin_trust import canonical
from hejin_trust.charter import Member
from hejin_trust.entries import Body, Entry
from hejin_trust.export import LogName
from hejin_trust.merkle import leaf_hash

_ANSWERED = ("definition", "definition_hash", "period", "slots", "query")
"""What a `labels.ask` and the bank's `labels.answer` must both say."""


class LabelCheck:
    """V7 of one node's questions for outcomes; its authorisations are those of a ConsentCheck."""

    def __init__(self, evidence: Evidence, node: Member) -> None:
        self._evidence, self._node = evidence, node.id
        self._declared = {
            member.size_band[1]
            for charter in evidence.history.charters
            for member in charter.members
            if member.id == node.id and member.size_band
        }

    def request(self, entry: Entry) -> None:
        """Take a `labels.request` of the internal log."""
        body = entry.body
        self._evidence.workbook.put(
            "label_request",
            self._node,
            text(body, "session"),
            entry.seq,
            entry.time,
            text(body, "bank"),
            number(body, "size"),
            number(body, "slots"),
            leaf_hash(entry.raw).hex(),
            question_of(body),
        )

    def ask(self, entry: Entry) -> None:
        """Take a `labels.ask` of the release log."""
        body = entry.body
        self._evidence.workbook.put(
            "label_ask",
            self._node,
            text(body, "session"),
            entry.seq,
            text(body, "bank"),
            text(body, "request"),
            question_of(body),
            _content(body),
        )

    def finish(self, consent: ConsentCheck) -> None:
        """Check every question, once both logs were read."""
        self._check_sizes(consent)
        self._check_pairs()

    def _check_sizes(self, consent: ConsentCheck) -> None:
        rows = self._evidence.workbook.rows(
            "SELECT seq, time, bank, size, slots FROM label_request WHERE node = ? ORDER BY seq",
            self._node,
        )
        for seq, time, bank, size, slots in list(rows):
            standing = consent.outcomes(bank, seq, time)
            if size > standing:
                self._note(
                    seq,
                    f"{bank} is asked for the outcomes of {size} enterprises, but {standing}"
                    " authorisations that name the outcome stood for it",
                    f"向 {bank} 询问 {size} 家企业的违约结果，而当时对其有效且列明违约结果的授权为"
                    f" {standing} 份",
                    internal=True,
                )
            if size > slots or slots not in self._declared:
                self._note(
                    seq,
                    f"{slots} slots are not the size that a charter declares for this node, or"
                    f" hold fewer than the {size} enterprises",
                    f"位置数 {slots} 不是章程为该节点申报的规模，或少于企业数 {size}",
                    internal=True,
                )

    def _check_pairs(self) -> None:
        """Each question names the one request that was logged for its session."""
        workbook = self._evidence.workbook
        repeated = workbook.rows(
            "SELECT MAX(seq) FROM label_request WHERE node = ? GROUP BY session HAVING COUNT(*) > 1"
            " ORDER BY 1",
            self._node,
        )
        for (seq,) in list(repeated):
            self._note(seq, "the session was begun before", "该会话此前已开始", internal=True)
        asked = workbook.rows(
            "SELECT a.seq, COUNT(r.seq), (SELECT COUNT(*) FROM label_ask b WHERE b.node = a.node"
            " AND b.session = a.session) FROM label_ask a LEFT JOIN label_request r ON"
            " r.node = a.node AND r.session = a.session AND r.leaf = a.request"
            " AND r.question = a.question WHERE a.node = ? GROUP BY a.seq ORDER BY a.seq",
            self._node,
        )
        for seq, requests, asks in list(asked):
            if (requests, asks) != (1, 1):
                self._note(
                    seq,
                    "a bank is asked for outcomes without, or otherwise than, the labels.request of"
                    " the session says, or twice",
                    "向银行询问标签没有对应的 labels.request、与其不符或重复",
                )

    def _note(self, seq: int, en: str, zh: str, *, internal: bool = False) -> None:
        log: LogName = "internal" if internal else "release"
        self._evidence.notes.add("V7", self._node, seq, en, zh, log=log)


def take_answer(evidence: Evidence, bank: str, entry: Entry) -> None:
    """Take a `labels.answer` of a bank's release log."""
    body = entry.body
    node, size, root = text(body, "node"), number(body, "proof_size"), text(body, "proof_root")
    evidence.workbook.put(
        "label_answer", bank, entry.seq, node, text(body, "session"), _content(body), size
    )
    if evidence.history.member(node, "node") is not None:
        checkpoint = (size, bytes.fromhex(root))
        evidence.claim((node, "release"), checkpoint, "labels.answer", bank, entry.seq)


def check_labels_both_ways(evidence: Evidence) -> None:
    """V5: a bank answered each question once, as its node's ledger had proven it before."""
    answers = evidence.workbook.rows(
        "SELECT w.bank, w.seq, w.node, w.content, w.proof_size, a.seq, a.content, (SELECT COUNT(*)"
        " FROM label_answer v WHERE v.node = w.node AND v.session = w.session AND v.bank = w.bank)"
        " FROM label_answer w LEFT JOIN label_ask a ON a.node = w.node AND a.session = w.session"
        " AND a.bank = w.bank ORDER BY w.bank, w.seq"
    )
    for bank, seq, node, content, size, ask, asked, count in list(answers):
        where = () if ask is None else (place(node, "release", ask),)
        if content != asked or size <= ask:
            evidence.notes.add(
                "V5",
                bank,
                seq,
                f"outcomes were given to {node} for a question that its ledger does not hold, or"
                " had not proven",
                f"向 {node} 提供了标签，而其账本没有这次询问，或当时尚未证明",
                evidence=where,
            )
        if count != 1:
            evidence.notes.add(
                "V5",
                bank,
                seq,
                f"a question of {node} for outcomes was answered {count} times",
                f"{node} 的一次标签询问被应答 {count} 次",
                evidence=where,
            )


def _content(body: Body) -> str:
    return canonical.encode({key: body[key] for key in _ANSWERED}).decode()
