"""A small consortium that runs four private sums and exports its ledgers: real logs, no network.

Every entry passes through `tamper` before it is logged and signed, and every document before it is
signed, so that a test can let a member write and sign any lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import cast

from ledger_papers import (
    AT,
    CAP,
    CONSORTIUM,
    NODES,
    RUN,
    SHAPES,
    SUMS,
    VIEW,
    Keys,
    base64_of,
    founding,
    make_charter,
    make_keyad,
    make_keys,
    make_plan,
    make_roster,
    roster_line,
    round_line,
    seal_keyad,
    sha,
    write_charters,
    write_lines,
    write_witness,
)
from sqlalchemy import Connection, MetaData, StaticPool, create_engine

from hejin_models.plan import Plan, PricedSum
from hejin_privacy.budget import PlanSpend, charge_for
from hejin_privacy.holdout import split_key
from hejin_privacy.mechanism import Mechanism
from hejin_privacy.messages import NotReceived, Query, Receipt, Result
from hejin_privacy.round_context import round_context, run_context
from hejin_privacy.secure_sum.documents import SurvivorSet, documents_hash
from hejin_privacy.secure_sum.keys import Advertised, Roster
from hejin_regulator.findings import Verification
from hejin_regulator.verify import verify_export
from hejin_trust.canonical import encode, fraction_body, time_text
from hejin_trust.charter import Charter
from hejin_trust.checkpoint import Checkpoint
from hejin_trust.cosignature import Cosigned, cosign, witness_name
from hejin_trust.entries import parse
from hejin_trust.envelope import (
    NOT_RECEIVED,
    PLAN,
    RECEIPT,
    SUM_QUERY,
    SUM_SURVIVORS,
    SUM_VOTE,
    open_envelope,
    seal,
)
from hejin_trust.export import LogName, write_export
from hejin_trust.log import Log
from hejin_trust.members import Member
from hejin_trust.mirroring import LogStanding
from hejin_trust.origins import internal_origin, release_origin
from hejin_trust.recovery import Recovery
from hejin_trust.stored_log import log_tables

__all__ = ["AT", "CAP", "NODES", "RUN", "SUMS", "Body", "Consortium", "Tamper", "honest", "sha"]

MEMBERS = (*NODES, "bank", "regulator")
OUTAGE = timedelta(minutes=10)
"""How long the regulator is away after jing's second reservation, which is renewed then."""

FEATURES = ("amount", "year", "margin")
"""Of the plan's view."""

Body = dict[str, object]
Tamper = Callable[[str, str, Body], Body | None]


def honest(member: str, kind: str, body: Body) -> Body | None:
    return body


@dataclass
class Party:
    """One member with its keys, both logs, and the notes that the regulator cosigned."""

    member: Member
    keys: Keys
    release: Log
    internal: Log
    documents: list[tuple[str, bytes]] = field(default_factory=list)
    notes: dict[LogName, list[str]] = field(default_factory=lambda: {"release": [], "internal": []})
    sizes: dict[LogName, int] = field(default_factory=lambda: {"release": 0, "internal": 0})
    spent: Fraction = Fraction(0)
    spend: PlanSpend = field(default_factory=PlanSpend)
    alone: Fraction = Fraction(0)
    alone_spend: PlanSpend = field(default_factory=PlanSpend)
    snapshot: int = -1
    result: Result | None = None

    @property
    def id(self) -> str:
        return self.member.id


@dataclass
class Asked:
    """The query of one round; survivors: whose releases reach the bank."""

    number: int
    envelope: bytes
    digest: str
    context: str
    planned: PricedSum
    survivors: tuple[str, ...]


class Consortium:
    """Three nodes and a bank that make four sums, and a fifth that comes to nothing.

    In mode "node" yongnian's fourth release is lost on the way; jing's second reservation is
    renewed, its fifth is void; yongnian recovers at the end. `tamper` returns the body to log or
    to sign instead, or None to leave it out: what a member does who signs its own lies.
    """

    def __init__(
        self,
        folder: Path,
        tamper: Tamper = honest,
        plan: Callable[[Plan], Plan] = replace,
        charter: Callable[[Charter], Charter] = replace,
        late: timedelta = timedelta(0),
        keys: tuple[str, dict[str, Keys]] | None = None,
    ) -> None:
        self.folder, self.tamper, self.moment, self.late = folder, tamper, AT, late
        self.authority, self.keys = keys or make_keys(MEMBERS)
        self.regulator = self.keys["regulator"].identity
        self.charter = charter(make_charter(self.authority, self.keys))
        self.parties = {member.id: self._party(member) for member in self.charter.members}
        self.plan = plan(make_plan(self.charter))
        self.bank = self.parties["bank"]
        self.digest = self._offer()
        self.roster: Roster | None = None
        self.advertised: list[Advertised] = []
        self.rounds: list[Body] = []
        self.last: Result | None = None

    @property
    def charters(self) -> tuple[Charter, ...]:
        return founding(self.charter), self.charter

    def _party(self, member: Member) -> Party:
        keys = self.keys[member.id]

        def log(origin: Callable[[str, str, str], str]) -> Log:
            name = origin(CONSORTIUM, member.role, member.id)
            return Log(name, member.id, keys.log, lambda: self.moment)

        return Party(member, keys, log(release_origin), log(internal_origin))

    def _offer(self) -> str:
        envelope = seal(PLAN, self.plan.body(), self.bank.keys.identity, "bank")
        digest = open_envelope(envelope, PLAN, self.bank.keys.identity.public).digest
        self.bank.documents.append((digest, envelope))
        return digest

    # -- the flow ------------------------------------------------------------------------

    def log(self, connection: Connection, log: Log, kind: str, body: Body) -> int:
        told = self.tamper(log.by, kind, body)
        if told is None:
            return log.size(connection) - 1
        return log.append(connection, kind, told).seq

    def sign(self, party: Party, payload_type: str, body: Body) -> bytes:
        """Sign a document as its party wants it; `tamper` sees it as e.g. "signed receipt"."""
        kind = payload_type.split("/")[1 if payload_type.count("/") == 2 else 3]
        told = self.tamper(party.id, f"signed {kind}", body)
        assert told is not None
        return seal(payload_type, told, party.keys.identity, party.id)

    def mirror(self, connection: Connection, party: Party) -> None:
        """Let the regulator cosign what is new."""
        name = witness_name(CONSORTIUM, "regulator")
        logs: list[tuple[LogName, Log]] = [("release", party.release), ("internal", party.internal)]
        for which, log in logs:
            size = log.size(connection)
            if size > party.sizes[which]:
                note = log.checkpoint(connection)
                at = self.moment + self.late
                note += cosign(note, name, self.keys["regulator"].log, at)
                party.notes[which].append(note)
                head = Checkpoint(log.origin, size, log.root(connection, size))
                log.keep_cosigned(connection, Cosigned(head, note, at))
                party.sizes[which] = size

    def run(self) -> Consortium:
        # One database holds the logs of all members: their origins keep them apart. What is
        # durable is tested with the log, so it is in memory.
        engine = create_engine("sqlite://", poolclass=StaticPool)
        metadata = MetaData()
        log_tables(metadata)
        with engine.begin() as connection:
            metadata.create_all(connection)
            self.live(connection)
            for party in self.parties.values():
                self.mirror(connection, party)
            self.export(connection)
        engine.dispose()
        return self

    def live(self, connection: Connection) -> None:
        for party in self.parties.values():
            self._found(connection, party)
        self._approve(connection)
        for number in range(1, 5):
            self._round(connection, number)
        self._interrupted(connection, self.parties["jing"])
        for name in NODES:
            self._note_result(connection, self.parties[name])
        self._recover(connection, self.parties["yongnian"])

    def export(self, connection: Connection) -> None:
        for party in self.parties.values():
            write_export(
                self.folder, party.id, connection, party.release, party.internal, party.documents
            )
            write_witness(self.folder, party.id, party.notes)
        for party in self.parties.values():
            if party.member.role == "bank":
                write_lines(self.folder / party.id / "rosters.jsonl", [])
                write_lines(self.folder / party.id / "rounds.jsonl", [])
        bank = self.folder / "bank"
        (bank / "documents" / f"{hashlib.sha256(VIEW).hexdigest()}.view").write_bytes(VIEW)
        if self.advertised:
            write_lines(bank / "rosters.jsonl", [roster_line(self.digest, self.advertised)])
        write_lines(bank / "rounds.jsonl", self.rounds)
        write_charters(self.folder, self.charters, self.regulator)

    def _found(self, connection: Connection, party: Party) -> None:
        charter, member = self.charter, party.member
        genesis: Body = {
            "charter": charter.digest,
            "certificate": member.certificate_fingerprint,
            "log_key": member.log_key.hex(),
            "rho_cap": fraction_body(charter.rho_cap),
            "rho_alone_cap": fraction_body(charter.rho_alone_cap),
            "delta": fraction_body(charter.delta),
            "period_from": charter.period_from,
            "period_to": charter.period_to,
        }
        for log in (party.release, party.internal):
            self.log(connection, log, "genesis", genesis)

    def _approve(self, connection: Connection) -> None:
        plan = self.plan
        self.log(
            connection,
            self.bank.release,
            "plan",
            {"plan": self.digest, "purpose": plan.purpose, "family": plan.family},
        )
        for name in NODES:
            party = self.parties[name]
            for grant in GRANTS:
                self.log(connection, party.internal, "authorisation.grant", grant)
            self.log(
                connection, party.internal, "authorisation.revoke", {"grant": 2, "reason": "again"}
            )
            refusal: Body = {"request": sha("x"), "code": "query-refused", "peer": "bank"}
            self.log(connection, party.internal, "refusal", refusal)
            self.log(
                connection,
                party.release,
                "plan.approve",
                {
                    "plan": self.digest,
                    "bank": "bank",
                    "rho": fraction_body(plan.rho),
                    "rho_train": fraction_body(plan.rho_train),
                    "rho_holdout": fraction_body(plan.rho_holdout),
                    "by": "operator",
                },
            )
        if plan.mode == "shared":
            self._advertise(connection)

    def _advertise(self, connection: Connection) -> None:
        """Every node gives its key for the run: the roster follows from all of them."""
        for name in self.plan.nodes:
            party = self.parties[name]
            self.mirror(connection, party)
            note = party.release.checkpoint(connection)
            keyad = make_keyad(self.digest, self.plan.expires, name, party.keys, note)
            told = self.tamper(name, "signed keyad", keyad.body())
            assert told is not None
            self.advertised.append(seal_keyad(told, name, party.keys))
        self.roster = make_roster(self.advertised, self.plan, self.digest, self.charter)

    def _ask(self, number: int) -> Asked:
        planned = SUMS[min(number, 4) - 1]
        query = Query(
            run=RUN,
            plan=self.digest,
            round=number,
            sum=min(number, 4) - 1,
            part=planned.part,
            state=sha("state"),
            previous=self._digest(self.last),
            mechanism=self.mechanism(planned, again=number == 5),
        )
        envelope = self.sign(self.bank, SUM_QUERY, query.body())
        digest = open_envelope(envelope, SUM_QUERY, self.bank.keys.identity.public).digest
        run = run_context(RUN, self.digest) if self.roster is None else self.roster.context
        context = round_context(run, number, bytes.fromhex(digest)).hex()
        lost = {"yongnian"} if (number, self.plan.mode) == (4, "node") else set()
        if number == 5:
            lost = set(NODES)
        survivors = tuple(name for name in NODES if name not in lost)
        return Asked(number, envelope, digest, context, planned, survivors)

    @staticmethod
    def _digest(result: Result | None) -> str:
        return "" if result is None else hashlib.sha256(encode(result.body())).hexdigest()

    def _round(self, connection: Connection, number: int) -> None:
        asked = self._ask(number)
        sent = {}
        for name in NODES:
            party = self.parties[name]
            seq = self._reserve(connection, party, asked)
            if (name, number) == ("jing", 2):
                self.moment += OUTAGE
                self.log(connection, party.release, "renew", {"reservation": seq})
            self.mirror(connection, party)
            self.before_release(number)
            header, vector = sha(f"header {name} {number}"), sha(f"vector {name} {number}")
            self.log(
                connection,
                party.release,
                "release",
                {
                    "reservation": seq,
                    "run": RUN,
                    "round": number,
                    "round_ctx": asked.context,
                    "vector": vector,
                    "header": header,
                },
            )
            self._use(connection, party, seq)
            sent[name] = (seq, header, vector)
        for name in asked.survivors:
            self._accept(connection, self.parties[name], asked, *sent[name])
        self.mirror(connection, self.bank)
        for name, (seq, header, vector) in sent.items():
            self._receive(connection, self.parties[name], asked, seq, header, vector)
        self._close(connection, asked)

    def _use(self, connection: Connection, party: Party, reservation: int) -> None:
        body: Body = {
            "reservation": reservation,
            "authorisations": self.standing(connection, party),
            "internal_size": party.internal.size(connection),
        }
        self.log(connection, party.internal, "authorisation.use", body)

    def standing(self, connection: Connection, party: Party) -> str:
        """Return the hash of the authorisations that stand for the plan, read off the log."""
        grants: dict[int, Body] = {}
        for entry in map(parse, party.internal.entries(connection)):
            if entry.type == "authorisation.grant":
                grants[entry.seq] = dict(entry.body)
            elif entry.type == "authorisation.revoke":
                grants.pop(cast("int", entry.body["grant"]), None)
        newest = {body["enterprise"]: seq for seq, body in grants.items() if self._covers(body)}
        return hashlib.sha256(encode(sorted(newest.values()))).hexdigest()

    def _covers(self, grant: Body) -> bool:
        def has(key: str, *wanted: str) -> bool:
            given = cast("list[str]", grant[key])
            return "*" in given or set(wanted) <= set(given)

        return (
            self.plan.purpose in cast("list[str]", grant["purposes"])
            and has("banks", "bank")
            and has("categories", "trade")
            and has("features", *FEATURES)
            and str(grant["valid_from"]) <= time_text(self.moment) < str(grant["valid_to"])
        )

    def before_release(self, number: int) -> None:
        """Let time pass, where a test wants it to."""

    def _reserve(self, connection: Connection, party: Party, asked: Asked) -> int:
        self._note_result(connection, party)
        if party.snapshot < 0:
            party.snapshot = self._snapshot(connection, party)
        mechanism = self.mechanism(asked.planned, again=asked.number == 5)
        cost, part = mechanism.cost(), asked.planned.part
        charge = charge_for(party.spend.train, party.spend.holdout, part, cost)
        party.spend = party.spend.plus(part, cost)
        before, party.spent = party.spent, party.spent + charge
        cost_alone, alone = mechanism.cost_alone(), party.alone_spend
        charge_alone = charge_for(alone.train, alone.holdout, part, cost_alone)
        party.alone_spend = alone.plus(part, cost_alone)
        alone_before, party.alone = party.alone, party.alone + charge_alone
        key = split_key(self.digest, self.charter.nonce)
        seq = self.log(
            connection,
            party.release,
            "reserve",
            {
                "run": RUN,
                "round": asked.number,
                "bank": "bank",
                "plan": self.digest,
                "query": asked.digest,
                "part": part,
                "split_key_hash": hashlib.sha256(key).hexdigest(),
                "round_ctx": asked.context,
                "snapshot": sha(f"data {party.id}"),
                "snapshot_seq": party.snapshot,
                "mechanism": mechanism.body(),
                "rho": fraction_body(cost),
                "charge": fraction_body(charge),
                "rho_alone": fraction_body(cost_alone),
                "charge_alone": fraction_body(charge_alone),
            },
        )
        self.log(
            connection,
            party.internal,
            "account",
            {
                "reservation": seq,
                "spent_before": fraction_body(before),
                "spent_after": fraction_body(party.spent),
                "plan_spent_after": fraction_body(max(party.spend.train, party.spend.holdout)),
                "bank_spent_after": fraction_body(party.spent),
                "alone_before": fraction_body(alone_before),
                "alone_after": fraction_body(party.alone),
                "period": self.charter.period_from,
            },
        )
        return seq

    def _snapshot(self, connection: Connection, party: Party) -> int:
        return self.log(
            connection,
            party.release,
            "snapshot",
            {
                "run": RUN,
                "plan": self.digest,
                "root": sha(f"data {party.id}"),
                "schema": sha("schema"),
                # Entries: 0 genesis, 1..5 grants; grant 2 was revoked, 4 has ended, 5 is for
                # another bank.
                "authorisations": hashlib.sha256(encode([1, 3])).hexdigest(),
                "internal_size": party.internal.size(connection),
                "internal_root": party.internal.root(connection).hex(),
            },
        )

    def mechanism(self, planned: PricedSum, *, again: bool = False) -> Mechanism:
        """Return the mechanism of a sum; asked again, it gets what little the plan has left."""
        dimension, bound_squared, nonzeros, counts = SHAPES[planned.statistic]
        return Mechanism.planned(
            statistic=planned.statistic,
            version=1,
            dimension=dimension,
            bound_squared=bound_squared,
            nonzeros=nonzeros,
            counts=counts,
            # A little room, so that a repeated round stays within the plan's cap.
            rho=Fraction(1, 1000) if again else planned.rho * Fraction(9, 10),
            n=len(self.plan.nodes),
            r=self.charter.r,
            mode=self.plan.mode,
            tau=self.plan.quorum,
            m=self.plan.minimum_nodes if self.plan.mode == "shared" else 0,
            t=self.plan.colluders,
        )

    def _accept(
        self,
        connection: Connection,
        party: Party,
        asked: Asked,
        seq: int,
        header: str,
        vector: str,
    ) -> None:
        size = party.sizes["release"]
        self.log(
            connection,
            self.bank.release,
            "accept",
            {
                "run": RUN,
                "round": asked.number,
                "node": party.id,
                "plan": self.digest,
                "round_ctx": asked.context,
                "reservation": seq,
                "header": header,
                "vector": vector,
                "proof_size": size,
                "proof_root": party.release.root(connection, size).hex(),
            },
        )

    def _receive(
        self,
        connection: Connection,
        party: Party,
        asked: Asked,
        seq: int,
        header: str,
        vector: str,
    ) -> None:
        name, number, at = party.id, asked.number, time_text(self.moment)
        if name in asked.survivors:
            note = self.bank.release.checkpoint(connection)
            receipt = Receipt(RUN, number, name, header, vector, note, at)
            word = self.sign(self.bank, RECEIPT, receipt.body())
        else:
            lost = NotReceived(RUN, number, name, at)
            word = self.sign(self.bank, NOT_RECEIVED, lost.body())
        self.log(
            connection,
            party.release,
            "receipt",
            {"reservation": seq, "run": RUN, "round": number, "receipt": base64_of(word)},
        )

    def _close(self, connection: Connection, asked: Asked) -> None:
        """Let the bank log the result, with the votes of the survivors where noise is shared."""
        number = asked.number
        survivors, votes = b"", list[bytes]()
        if self.roster is not None:
            chosen = SurvivorSet(
                RUN, number, asked.context, asked.survivors, documents_hash([b"headers"])
            )
            survivors = self.sign(self.bank, SUM_SURVIVORS, chosen.body())
            for name in asked.survivors:
                votes.append(self.sign(self.parties[name], SUM_VOTE, chosen.body()))
        result = Result(
            run=RUN,
            round=number,
            round_ctx=asked.context,
            survivors=asked.survivors,
            total=sha(f"total {number}"),
            votes=documents_hash(votes) if votes else "",
        )
        self.log(connection, self.bank.release, "result", _logged(result))
        self.last = result
        self._file(asked, survivors, votes)
        for name in NODES:
            self.parties[name].result = result

    def _file(self, asked: Asked, survivors: bytes, votes: Sequence[bytes]) -> None:
        self.rounds.append(round_line(asked.number, asked.envelope, survivors, votes))

    def _note_result(self, connection: Connection, party: Party) -> None:
        """The last result comes with the next query, or by itself at the end."""
        if party.result is not None:
            self.log(connection, party.release, "result", _logged(party.result))
            party.result = None

    def _interrupted(self, connection: Connection, party: Party) -> None:
        """Round 5 asks the last sum again; the node dies over it, and the bank burns it."""
        asked = self._ask(5)
        seq = self._reserve(connection, party, asked)
        self.log(connection, party.release, "void", {"reservation": seq, "reason": "interrupted"})
        burn: Body = {"run": RUN, "round": 5, "giver": "", "taker": ""}
        self.log(connection, self.bank.release, "burn", burn)
        self._file(asked, b"", ())

    def _recover(self, connection: Connection, party: Party) -> None:
        """The node had lost its newest entries and got them back from the mirror."""
        self.mirror(connection, party)
        logs = (party.release, party.internal)
        held = tuple(
            LogStanding(log.origin, log.size(connection), log.root(connection)) for log in logs
        )
        approval = Recovery(
            CONSORTIUM, party.id, "the disk failed", time_text(self.moment), held
        ).seal(self.regulator, "regulator")
        digest = Recovery.parse(approval, self.charter).digest
        party.documents.append((digest, approval))
        for log, standing in zip(logs, held, strict=True):
            body: Body = {
                "approval": digest,
                "reason": "the disk failed",
                "size": standing.size - 2,
            }
            self.log(connection, log, "recover", body)

    def verify(self) -> Verification:
        return verify_export(self.folder, self.regulator.public)


def _logged(result: Result) -> Body:
    body = result.body()
    del body["v"]
    return body


GRANTS: tuple[Body, ...] = tuple(
    {
        "enterprise": sha(str(number))[:32],
        "document": sha("paper"),
        "grade": "B",
        "purposes": ["model-training"],
        "banks": ["*"] if number != 4 else ["other-bank"],
        "categories": ["trade"],
        "features": ["*"] if number != 1 else ["amount", "year", "margin"],
        "valid_from": "2025-01-01T00:00:00Z",
        "valid_to": f"{until}-06-01T00:00:00Z",
    }
    for number, until in ((1, 2027), (2, 2027), (2, 2027), (3, 2025), (4, 2027))
)
