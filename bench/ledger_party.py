"""One member of an export that is written as a stream: its keys, both logs, a node's account."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from pathlib import Path

from bench.ledger_book import Book
from hejin_privacy.budget import PlanSpend, charge_for
from hejin_privacy.mechanism import Mechanism
from hejin_trust.canonical import fraction_body
from hejin_trust.charter import Charter
from hejin_trust.cosignature import witness_name
from hejin_trust.entries import Body
from hejin_trust.envelope import seal
from hejin_trust.export import LOG_NAMES
from hejin_trust.keys import SigningKey
from hejin_trust.members import Member
from hejin_trust.origins import internal_origin, release_origin

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the papers are a test tool

from ledger_papers import Keys


@dataclass(slots=True)
class _Account:
    """What all sums of a node, and those of its newest plan, have cost."""

    all: Fraction = Fraction(0)
    plan: PlanSpend = field(default_factory=PlanSpend)

    def charge(self, part: str, cost: Fraction) -> tuple[Fraction, Fraction]:
        """Add a sum; return what it is charged, and what was spent before."""
        before = self.all
        charge = charge_for(self.plan.train, self.plan.holdout, part, cost)
        self.plan, self.all = self.plan.plus(part, cost), before + charge
        return charge, before


class Party:
    """Signs and logs for one member; counts its signatures."""

    def __init__(self, folder: Path, charter: Charter, member: Member, keys: Keys) -> None:
        """Begin the member's logs in the export `folder` with their genesis entries to come."""
        self.id, self.keys, self._charter, self._member = member.id, keys, charter, member
        names = (release_origin, internal_origin)
        self.release, self.internal = (
            Book(folder, self.id, log, origin(charter.consortium, member.role, self.id), keys.log)
            for log, origin in zip(LOG_NAMES, names, strict=True)
        )
        self._signed = 0
        self._spent, self._alone = _Account(), _Account()
        self.snapshot = 0
        #: What a node logs with its next entry: the bank's receipt and the round's result.
        self.due: list[tuple[str, Body]] = []

    @property
    def entries(self) -> int:
        """The leaves of both logs."""
        return self.release.size + self.internal.size

    @property
    def signatures(self) -> int:
        """All that were made in this member's logs and with its identity key."""
        return self._signed + self.release.signatures + self.internal.signatures

    def found(self, at: datetime) -> None:
        """Log the genesis of both logs."""
        charter = self._charter
        genesis: Body = {
            "charter": charter.digest,
            "certificate": self._member.certificate_fingerprint,
            "log_key": self._member.log_key.hex(),
            "rho_cap": fraction_body(charter.rho_cap),
            "rho_alone_cap": fraction_body(charter.rho_alone_cap),
            "delta": fraction_body(charter.delta),
            "period_from": charter.period_from,
            "period_to": charter.period_to,
        }
        for book in (self.release, self.internal):
            book.append("genesis", genesis, at)

    def sign(self, payload_type: str, body: Body) -> bytes:
        """Return a document's signed envelope."""
        self._signed += 1
        return seal(payload_type, body, self.keys.identity, self.id)

    def witness(self, regulator: SigningKey, at: datetime) -> None:
        """Let the regulator cosign what is new in both logs."""
        name = witness_name(self._charter.consortium, self._charter.regulator.id)
        for book in (self.release, self.internal):
            book.witness(name, regulator, at)

    def log_due(self, at: datetime) -> None:
        """Log what the bank's last message brought."""
        for kind, body in self.due:
            self.release.append(kind, body, at)
        self.due.clear()

    def begin_plan(self) -> None:
        """Begin a new plan's account."""
        self._spent.plan, self._alone.plan = PlanSpend(), PlanSpend()

    def reserve(self, mechanism: Mechanism, part: str, what: Body, at: datetime) -> int:
        """Charge a sum in both logs; what: the rest of the `reserve` entry. Return its index."""
        cost, cost_alone = mechanism.cost(), mechanism.cost_alone()
        charge, before = self._spent.charge(part, cost)
        charge_alone, alone_before = self._alone.charge(part, cost_alone)
        reserve: Body = {
            **what,
            "part": part,
            "snapshot_seq": self.snapshot,
            "mechanism": mechanism.body(),
            "rho": fraction_body(cost),
            "charge": fraction_body(charge),
            "rho_alone": fraction_body(cost_alone),
            "charge_alone": fraction_body(charge_alone),
        }
        seq = self.release.append("reserve", reserve, at)
        plan = self._spent.plan
        account: Body = {
            "reservation": seq,
            "spent_before": fraction_body(before),
            "spent_after": fraction_body(self._spent.all),
            "plan_spent_after": fraction_body(max(plan.train, plan.holdout)),
            "bank_spent_after": fraction_body(self._spent.all),
            "alone_before": fraction_body(alone_before),
            "alone_after": fraction_body(self._alone.all),
            "period": self._charter.period_from,
        }
        self.internal.append("account", account, at)
        return seq

    def close(self, at: datetime, regulator: SigningKey) -> None:
        """Log what is due, have everything cosigned, and write the checkpoints."""
        self.log_due(at)
        self.witness(regulator, at)
        self.release.close()
        self.internal.close()
