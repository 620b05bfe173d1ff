"""A small consortium that runs four private sums and exports its ledgers: real logs, no network.

Every entry passes through `tamper` before it is logged and signed, so that a test can let a
member write and sign any lie.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

from sqlalchemy import Connection

from hejin_models.plan import Deadlines, LabelReference, Plan, PricedSum, ViewReference
from hejin_privacy.budget import PlanSpend, charge_for
from hejin_privacy.holdout import split_key
from hejin_privacy.mechanism import Mechanism
from hejin_privacy.messages import NotReceived, Receipt
from hejin_privacy.round_context import round_context, run_context
from hejin_regulator.findings import Verification
from hejin_regulator.verify import verify_export
from hejin_trust.canonical import encode, fraction_body
from hejin_trust.charter import Charter
from hejin_trust.database import open_database, writing
from hejin_trust.envelope import NOT_RECEIVED, PLAN, RECEIPT, open_envelope, seal
from hejin_trust.export import write_export
from hejin_trust.keys import SigningKey
from hejin_trust.log import Log, internal_origin, release_origin
from hejin_trust.members import Member, Role
from hejin_trust.text import Text

AT = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)
MIGRATION = '''"""first"""
from alembic import op
import sqlalchemy as sa
from hejin_trust.stored_log import log_tables
revision = "0001"
down_revision = None
def upgrade():
    metadata = sa.MetaData()
    log_tables(metadata)
    metadata.create_all(op.get_bind())
'''
NODES = ("anping", "jing", "yongnian")
RUN = "0f" * 16
CAP = Fraction(1, 10)
SUMS = (
    PricedSum("histogram", 1, "train", Fraction(1, 100)),
    PricedSum("gram", 1, "train", Fraction(2, 100)),
    PricedSum("score_histogram", 1, "holdout", Fraction(1, 100)),
    PricedSum("score_histogram", 1, "holdout", Fraction(4, 100)),
)
#: What the sums of SUMS are like: dimension, C^2, non-zeros, counts.
SHAPES = {
    "histogram": (40, Fraction(3), 3, True),
    "gram": (10, Fraction(1, 2), 10, False),
    "score_histogram": (128, Fraction(1), 1, True),
}
Body = dict[str, object]
Tamper = Callable[[str, str, Body], Body | None]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def honest(member: str, kind: str, body: Body) -> Body | None:
    return body


@dataclass
class Party:
    """One member with its keys and both logs."""

    member: Member
    identity: SigningKey
    release: Log
    internal: Log
    documents: list[tuple[str, bytes]] = field(default_factory=list)
    spent: Fraction = Fraction(0)
    spend: PlanSpend = field(default_factory=PlanSpend)
    alone: Fraction = Fraction(0)
    alone_spend: PlanSpend = field(default_factory=PlanSpend)
    snapshot: int = -1


class Consortium:
    """Three nodes and a bank that make four sums; every entry passes through `tamper` first.

    `tamper` returns the body to log instead, or None to leave the entry out: what a member does
    who signs its own lies. Everything is logged by the real code.
    """

    def __init__(
        self,
        folder: Path,
        tamper: Tamper = honest,
        plan: Callable[[Plan], Plan] = replace,
        charter: Callable[[Charter], Charter] = replace,
    ) -> None:
        self.folder, self.tamper = folder, tamper
        self.regulator = SigningKey.generate()
        keys = {name: (SigningKey.generate(), SigningKey.generate()) for name in (*NODES, "bank")}
        self.charter = charter(self._charter(keys))
        self.parties = {
            member.id: Party(
                member,
                keys[member.id][0],
                Log(
                    release_origin("hebei", member.role, member.id),
                    member.id,
                    keys[member.id][1],
                    lambda: AT,
                ),
                Log(
                    internal_origin("hebei", member.role, member.id),
                    member.id,
                    keys[member.id][1],
                    lambda: AT,
                ),
            )
            for member in self.charter.members
        }
        self.plan = plan(self._plan())
        self.bank = self.parties["bank"]
        self.digest = self._offer()

    def _charter(self, keys: dict[str, tuple[SigningKey, SigningKey]]) -> Charter:
        def member(name: str, role: Role, identity: bytes, log: bytes) -> Member:
            band = (100, 5000) if role == "node" else None
            return Member(name, role, Text(name, "成员"), identity, log, sha(name), size_band=band)

        return Charter(
            consortium="hebei",
            serial=2,
            issued="2026-11-01T00:00:00Z",
            regulator=member(
                "regulator", "regulator", self.regulator.public, SigningKey.generate().public
            ),
            ca_certificate="PEM",
            members=tuple(
                member(name, "bank" if name == "bank" else "node", pair[0].public, pair[1].public)
                for name, pair in keys.items()
            ),
            rho_cap=CAP,
            rho_alone_cap=CAP,
            delta=Fraction(1, 10**6),
            period_from="2026-01-01T00:00:00Z",
            period_to="2027-01-01T00:00:00Z",
            minimum_nodes=3,
            minimum_enterprises=100,
            r=1,
            nonce=b"n" * 32,
        )

    def _plan(self) -> Plan:
        return Plan(
            bank="bank",
            consortium="hebei",
            charter=self.charter.digest,
            purpose="model-training",
            product="loan",
            view=ViewReference("trade", 1, sha("view")),
            as_of=None,
            label=LabelReference("bad", "90 days", "bank"),
            family="scorecard",
            mode="node",
            nodes=NODES,
            minimum_nodes=3,
            quorum=0,
            colluders=0,
            deadlines=Deadlines(),
            holdout=Fraction(1, 5),
            rho_train=Fraction(3, 100),
            rho_holdout=Fraction(5, 100),
            sums=SUMS,
            created=AT.replace(day=1),
            expires=AT.replace(month=12),
            nonce="00" * 16,
        )

    def _offer(self) -> str:
        envelope = seal(PLAN, self.plan.body(), self.bank.identity, "bank")
        digest = open_envelope(envelope, PLAN, self.bank.identity.public).digest
        self.bank.documents.append((digest, envelope))
        return digest

    # -- the flow ------------------------------------------------------------------------

    def log(self, connection: Connection, log: Log, kind: str, body: Body) -> int:
        told = self.tamper(log.by, kind, body)
        if told is None:
            return log.size(connection) - 1
        return log.append(connection, kind, told).seq

    def run(self) -> Consortium:
        migrations = self.folder.parent / "migrations"
        (migrations / "versions").mkdir(parents=True)
        (migrations / "versions" / "0001.py").write_text(MIGRATION)
        # One database holds the logs of all members: their origins keep them apart.
        engine = open_database(self.folder.parent / "all.db", migrations)
        with writing(engine) as connection:
            for party in self.parties.values():
                self._found(connection, party)
            self._approve(connection)
            for number in range(1, 5):
                self._round(connection, number)
            self._interrupted(connection, self.parties["jing"])
            for party in self.parties.values():
                write_export(
                    self.folder,
                    party.member.id,
                    connection,
                    party.release,
                    party.internal,
                    party.documents,
                )
        engine.dispose()
        (self.folder / "charter.json").write_bytes(self.charter.seal(self.regulator))
        return self

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
            for number, until in ((1, 2027), (2, 2027), (2, 2027), (3, 2025), (4, 2027)):
                self.log(
                    connection,
                    party.internal,
                    "authorisation.grant",
                    {
                        "enterprise": sha(str(number))[:32],
                        "document": sha("paper"),
                        "grade": "B",
                        "purposes": ["model-training"],
                        "banks": ["*"] if number != 4 else ["other-bank"],
                        "categories": ["trade"],
                        "features": ["*"] if number != 1 else ["amount", "year"],
                        "valid_from": "2025-01-01T00:00:00Z",
                        "valid_to": f"{until}-06-01T00:00:00Z",
                    },
                )
            self.log(
                connection, party.internal, "authorisation.revoke", {"grant": 2, "reason": "again"}
            )
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

    def _round(self, connection: Connection, number: int) -> None:
        query = sha(f"query {number}")
        context = round_context(run_context(RUN, self.digest), number, bytes.fromhex(query)).hex()
        sent = []
        for name in NODES:
            party = self.parties[name]
            planned = SUMS[number - 1]
            seq = self._reserve(connection, party, number, planned, query, context)
            header, vector = sha(f"header {name} {number}"), sha(f"vector {name} {number}")
            self.log(
                connection,
                party.release,
                "release",
                {
                    "reservation": seq,
                    "run": RUN,
                    "round": number,
                    "round_ctx": context,
                    "vector": vector,
                    "header": header,
                },
            )
            sent.append((party, seq, header, vector))
        for party, seq, header, vector in sent:
            if (party.member.id, number) != ("yongnian", 4):  # lost on the way
                self._accept(connection, party, seq, header, vector, number, context)
        for party, seq, header, vector in sent:
            self._receive(connection, party, seq, header, vector, number)

    def _reserve(
        self,
        connection: Connection,
        party: Party,
        number: int,
        planned: PricedSum,
        query: str,
        context: str,
    ) -> int:
        if party.snapshot < 0:
            party.snapshot = self.log(
                connection,
                party.release,
                "snapshot",
                {
                    "run": RUN,
                    "plan": self.digest,
                    "root": sha(f"data {party.member.id}"),
                    "schema": sha("schema"),
                    # Entries: 0 genesis, 1..5 grants; grant 2 was revoked, 4 has ended, 5 is for
                    # another bank.
                    "authorisations": hashlib.sha256(encode([1, 3])).hexdigest(),
                    "internal_size": party.internal.size(connection),
                    "internal_root": party.internal.root(connection).hex(),
                },
            )
        mechanism = self.mechanism(planned)
        cost, part = mechanism.cost(), planned.part
        charge = charge_for(party.spend.train, party.spend.holdout, part, cost)
        party.spend = party.spend.plus(part, cost)
        before, party.spent = party.spent, party.spent + charge
        cost_alone, alone = mechanism.cost_alone(), party.alone_spend
        charge_alone = charge_for(alone.train, alone.holdout, part, cost_alone)
        party.alone_spend = alone.plus(part, cost_alone)
        alone_before, party.alone = party.alone, party.alone + charge_alone
        seq = self.log(
            connection,
            party.release,
            "reserve",
            {
                "run": RUN,
                "round": number,
                "bank": "bank",
                "plan": self.digest,
                "query": query,
                "part": part,
                "split_key_hash": hashlib.sha256(
                    split_key(self.digest, self.charter.nonce)
                ).hexdigest(),
                "round_ctx": context,
                "snapshot": sha(f"data {party.member.id}"),
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

    def mechanism(self, planned: PricedSum) -> Mechanism:
        dimension, bound_squared, nonzeros, counts = SHAPES[planned.statistic]
        return Mechanism.planned(
            statistic=planned.statistic,
            version=1,
            dimension=dimension,
            bound_squared=bound_squared,
            nonzeros=nonzeros,
            counts=counts,
            # A little room, so that a repeated round stays within the plan's cap.
            rho=planned.rho * Fraction(9, 10),
            n=len(self.plan.nodes),
            r=1,
            mode=self.plan.mode,
            tau=self.plan.quorum,
            m=self.plan.minimum_nodes if self.plan.mode == "shared" else 0,
            t=self.plan.colluders,
        )

    def _accept(
        self,
        connection: Connection,
        party: Party,
        seq: int,
        header: str,
        vector: str,
        number: int,
        context: str,
    ) -> None:
        size = party.release.size(connection)
        self.log(
            connection,
            self.bank.release,
            "accept",
            {
                "run": RUN,
                "round": number,
                "node": party.member.id,
                "plan": self.digest,
                "round_ctx": context,
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
        seq: int,
        header: str,
        vector: str,
        number: int,
    ) -> None:
        name = party.member.id
        if (name, number) == ("yongnian", 4):
            word = seal(
                NOT_RECEIVED,
                NotReceived(RUN, number, name, "2026-11-22T20:00:00Z").body(),
                self.bank.identity,
                "bank",
            )
        else:
            word = self.receipt(connection, name, number, header, vector)
        self.log(
            connection,
            party.release,
            "receipt",
            {
                "reservation": seq,
                "run": RUN,
                "round": number,
                "receipt": base64.b64encode(word).decode(),
            },
        )

    def receipt(
        self, connection: Connection, name: str, number: int, header: str, vector: str
    ) -> bytes:
        note = self.bank.release.checkpoint(connection)
        receipt = Receipt(RUN, number, name, header, vector, note, "2026-11-22T20:00:00Z")
        body = self.tamper("bank", "signed receipt", receipt.body())
        assert body is not None
        return seal(RECEIPT, body, self.bank.identity, "bank")

    def _interrupted(self, connection: Connection, party: Party) -> None:
        """Round 5 asks the third sum again; the node dies over it."""
        query = sha("query 5")
        context = round_context(run_context(RUN, self.digest), 5, bytes.fromhex(query)).hex()
        again = replace(SUMS[2], rho=Fraction(1, 1000))
        seq = self._reserve(connection, party, 5, again, query, context)
        self.log(connection, party.release, "void", {"reservation": seq, "reason": "interrupted"})

    def verify(self) -> Verification:
        return verify_export(self.folder, self.regulator.public)
