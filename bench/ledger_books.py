"""An honest export of any size, written as a stream with real signatures: daily runs of one bank.

Five nodes; every second run shares its noise. All that the product logs and signs is logged and
signed here; a node's logs are cosigned once a round, after its reservation, the bank's after its
acceptances: the fewest cosignatures that LEDGER section 3 allows.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bench.ledger_party import Party
from hejin_models.plan import Plan
from hejin_privacy.holdout import split_key
from hejin_privacy.mechanism import Mechanism
from hejin_privacy.messages import Query, Receipt, Result
from hejin_privacy.round_context import round_context, run_context
from hejin_privacy.secure_sum.documents import KeyAd, SurvivorSet, documents_hash
from hejin_privacy.secure_sum.keys import Advertised, Invitation, open_roster
from hejin_trust import certificates
from hejin_trust.canonical import encode, fraction_body, time_text
from hejin_trust.entries import Body
from hejin_trust.envelope import (
    PLAN,
    RECEIPT,
    SUM_KEYAD,
    SUM_QUERY,
    SUM_SURVIVORS,
    SUM_VOTE,
    open_envelope,
)
from hejin_trust.export import WITNESS_FOLDER

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the papers are a test tool

import ledger_papers as papers

NODES = tuple(f"node-{number}" for number in range(1, 6))
BANK, REGULATOR = "bank", "regulator"
_ENTRIES_A_RELEASE = 6.475
"""Of all logs together: a release with its share of its round, run and plan; grants are beside."""
_SUMS = papers.SUMS[:2] * 3 + papers.SUMS[2:]
_MOST_GRANTS = 6_000
"""Of a node; in smaller exports as many as it makes releases."""
_ROUND = timedelta(seconds=1)
_CAP = Fraction(1_000_000)
"""More than any charter's: runs enough to fill a million entries would break every real one."""


@dataclass(frozen=True, slots=True)
class Books:
    """An export that was written.

    entries         leaves of all logs
    signatures      Ed25519 signatures in it, each counted once
    regulator_key   the key that it is to be verified under, 32 bytes
    """

    releases: int
    entries: int
    signatures: int
    regulator_key: bytes


@dataclass(frozen=True, slots=True)
class _Run:
    """A plan being carried out: its id, the plan and its hash, the context of its rounds."""

    id: str
    plan: Plan
    digest: str
    context: bytes


@dataclass(frozen=True, slots=True)
class _Asked:
    """One sum: its place in the plan, the query's envelope and hash, the round's context (hex)."""

    place: int
    envelope: bytes
    digest: str
    context: str


def releases_in(entries: int) -> int:
    """Return how many releases fill about so many entries."""
    with_grants = round(entries / (_ENTRIES_A_RELEASE + 1))
    most = len(NODES) * _MOST_GRANTS
    return with_grants if with_grants <= most else round((entries - most) / _ENTRIES_A_RELEASE)


def write_books(folder: Path, releases: int) -> Books:
    """Write an export with about `releases` releases, whole runs of 40, into the new `folder`."""
    return _Writer(folder).write(max(1, round(releases / (len(NODES) * len(_SUMS)))))


class _Writer:
    """Plays all members; holds nothing that grows with the runs."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._moment = folder, papers.AT
        authority, keys = papers.make_keys((*NODES, BANK, REGULATOR))
        self._regulator = keys[REGULATOR]
        charter = papers.make_charter(authority, keys)
        self._charter = replace(charter, rho_cap=_CAP, rho_alone_cap=len(NODES) * _CAP)
        (folder / WITNESS_FOLDER).mkdir(parents=True)
        (folder / BANK / "documents").mkdir(parents=True)
        for node in NODES:
            (folder / node).mkdir()
        parties = {
            member.id: Party(folder, self._charter, member, keys[member.id])
            for member in self._charter.members
        }
        self._bank, self._nodes = parties[BANK], [parties[node] for node in NODES]
        self._plans = (self._planned("node"), self._planned("shared"))
        self._mechanisms = {plan.mode: _mechanisms(plan) for plan in self._plans}
        self._entitled = ""

    def write(self, runs: int) -> Books:
        """Write it all."""
        releases = runs * len(_SUMS) * len(NODES)
        self._found(min(_MOST_GRANTS, releases // len(NODES)))
        bank = self._folder / BANK
        with (
            (bank / "rosters.jsonl").open("wb") as self._rosters,
            (bank / "rounds.jsonl").open("wb") as self._rounds,
        ):
            for number in range(runs):
                self._carry_out(self._plans[number % 2])
        view = hashlib.sha256(papers.VIEW).hexdigest()
        (bank / "documents" / f"{view}.view").write_bytes(papers.VIEW)
        charters = (papers.founding(self._charter), self._charter)
        papers.write_charters(self._folder, charters, self._regulator.identity, self._moment)
        parties = (*self._nodes, self._bank)
        for party in parties:
            party.close(self._moment, self._regulator.log)
        return Books(
            releases,
            entries=sum(party.entries for party in parties),
            # Both charters and the list of certificates are the regulator's.
            signatures=sum(party.signatures for party in parties) + len(charters) + 1,
            regulator_key=self._regulator.identity.public,
        )

    def _planned(self, mode: str) -> Plan:
        train = sum((planned.rho for planned in _SUMS if planned.part == "train"), Fraction(0))
        shared = mode == "shared"
        return replace(
            papers.make_plan(self._charter),
            mode=mode,
            nodes=NODES,
            minimum_nodes=len(NODES),
            quorum=4 if shared else 0,
            colluders=1 if shared else 0,
            sums=_SUMS,
            rho_train=train,
        )

    def _found(self, grants: int) -> None:
        for party in (*self._nodes, self._bank):
            party.found(self._moment)
        for node in self._nodes:
            for _ in range(grants):
                node.internal.append("authorisation.grant", _grant(), self._moment)
        # The genesis is entry 0 of the internal log.
        self._entitled = hashlib.sha256(encode(list(range(1, grants + 1)))).hexdigest()

    def _carry_out(self, planned: Plan) -> None:
        """One run: plan, approvals, keys, and a round each sum."""
        run = self._begin(secrets.token_hex(16), planned)
        previous = ""
        for place in range(len(_SUMS)):
            previous = self._round(run, place, previous)

    def _begin(self, run: str, planned: Plan) -> _Run:
        plan = replace(planned, nonce=run)
        envelope = self._bank.sign(PLAN, plan.body())
        digest = open_envelope(envelope, PLAN, self._bank.keys.identity.public).digest
        (self._folder / BANK / "documents" / f"{digest}.json").write_bytes(envelope)
        told: Body = {"plan": digest, "purpose": plan.purpose, "family": plan.family}
        self._bank.release.append("plan", told, self._moment)
        for node in self._nodes:
            self._approve(node, plan, digest)
        context = run_context(run, digest)
        if plan.mode == "shared":
            context = self._agree(run, plan, digest)
        for node in self._nodes:
            self._take_snapshot(node, run, digest)
        return _Run(run, plan, digest, context)

    def _approve(self, node: Party, plan: Plan, digest: str) -> None:
        node.log_due(self._moment)
        node.begin_plan()
        approval: Body = {
            "plan": digest,
            "bank": BANK,
            "rho": fraction_body(plan.rho),
            "rho_train": fraction_body(plan.rho_train),
            "rho_holdout": fraction_body(plan.rho_holdout),
            "by": "operator",
        }
        node.release.append("plan.approve", approval, self._moment)

    def _agree(self, run: str, plan: Plan, digest: str) -> bytes:
        """Let every node give its key; write the roster's line and return its context."""
        advertised = []
        for node in self._nodes:
            node.witness(self._regulator.log, self._moment)
            certificate = node.keys.certificate
            keyad = KeyAd(
                run=run,
                plan=digest,
                node=node.id,
                certificate=certificates.fingerprint(certificate),
                key=X25519PrivateKey.generate().public_key().public_bytes_raw().hex(),
                checkpoint=node.release.note(),
                expires=time_text(plan.expires),
            )
            signed = node.sign(SUM_KEYAD, keyad.body())
            advertised.append(Advertised(signed, certificate.encode()))
        line = {
            "run": run,
            "plan": digest,
            "keyads": [_base64(item.envelope) for item in advertised],
            "certificates": [_base64(item.certificate) for item in advertised],
        }
        self._rosters.write(encode(line) + b"\n")
        invitation = Invitation(
            run, digest, frozenset(NODES), plan.quorum, plan.minimum_nodes, plan.colluders,
            self._charter,
        )  # fmt: skip
        return open_roster(advertised, invitation, self._moment).context

    def _take_snapshot(self, node: Party, run: str, plan: str) -> None:
        snapshot: Body = {
            "run": run,
            "plan": plan,
            "root": _data(node),
            "schema": papers.sha("schema"),
            "authorisations": self._entitled,
            "internal_size": node.internal.size,
            "internal_root": node.internal.root().hex(),
        }
        node.snapshot = node.release.append("snapshot", snapshot, self._moment)

    def _round(self, run: _Run, place: int, previous: str) -> str:
        """One sum, from the query to the result; return the result's hash."""
        query = Query(
            run=run.id,
            plan=run.digest,
            round=place + 1,
            sum=place,
            part=_SUMS[place].part,
            state=papers.sha("state"),
            previous=previous,
            mechanism=self._mechanisms[run.plan.mode][place],
        )
        envelope = self._bank.sign(SUM_QUERY, query.body())
        digest = hashlib.sha256(encode(query.body())).hexdigest()
        context = round_context(run.context, place + 1, bytes.fromhex(digest)).hex()
        asked = _Asked(place, envelope, digest, context)
        accepted = [self._answer(node, run, asked) for node in self._nodes]
        for body in accepted:
            self._bank.release.append("accept", body, self._moment)
        self._bank.witness(self._regulator.log, self._moment)
        for node, body in zip(self._nodes, accepted, strict=True):
            self._give_receipt(node, body)
        result = self._close(run, asked)
        self._moment += _ROUND
        return result

    def _answer(self, node: Party, run: _Run, asked: _Asked) -> dict[str, object]:
        """Reserve, have it cosigned, release; return the bank's `accept`."""
        node.log_due(self._moment)
        common: Body = {"run": run.id, "round": asked.place + 1, "round_ctx": asked.context}
        what: Body = {
            **common,
            "bank": BANK,
            "plan": run.digest,
            "query": asked.digest,
            "split_key_hash": _hash(split_key(run.digest, self._charter.nonce)),
            "snapshot": _data(node),
        }
        mechanism = self._mechanisms[run.plan.mode][asked.place]
        seq = node.reserve(mechanism, _SUMS[asked.place].part, what, self._moment)
        node.witness(self._regulator.log, self._moment)
        size, root = node.release.size, node.release.root()
        made = {"vector": secrets.token_hex(32), "header": secrets.token_hex(32)}
        node.release.append("release", {"reservation": seq, **common, **made}, self._moment)
        use: Body = {
            "reservation": seq,
            "authorisations": self._entitled,
            "internal_size": node.internal.size,
        }
        node.internal.append("authorisation.use", use, self._moment)
        return {
            **common,
            **made,
            "node": node.id,
            "plan": run.digest,
            "reservation": seq,
            "proof_size": size,
            "proof_root": root.hex(),
        }

    def _give_receipt(self, node: Party, accept: dict[str, object]) -> None:
        run, number = str(accept["run"]), int(str(accept["round"]))
        header, vector = str(accept["header"]), str(accept["vector"])
        note, at = self._bank.release.note(), time_text(self._moment)
        receipt = Receipt(run, number, node.id, header, vector, note, at)
        told: Body = {
            "reservation": accept["reservation"],
            "run": run,
            "round": number,
            "receipt": _base64(self._bank.sign(RECEIPT, receipt.body())),
        }
        node.due.append(("receipt", told))

    def _close(self, run: _Run, asked: _Asked) -> str:
        """Survivor set and votes where noise is shared, and the result; return its hash."""
        survivors, votes = b"", list[bytes]()
        if run.plan.mode == "shared":
            headers = documents_hash([b"headers"])
            chosen = SurvivorSet(run.id, asked.place + 1, asked.context, NODES, headers).body()
            survivors = self._bank.sign(SUM_SURVIVORS, chosen)
            votes = [node.sign(SUM_VOTE, chosen) for node in self._nodes]
        result = Result(
            run=run.id,
            round=asked.place + 1,
            round_ctx=asked.context,
            survivors=NODES,
            total=secrets.token_hex(32),
            votes=documents_hash(votes) if votes else "",
        )
        logged = {name: value for name, value in result.body().items() if name != "v"}
        self._bank.release.append("result", logged, self._moment)
        for node in self._nodes:
            node.due.append(("result", logged))
        line = {
            "run": run.id,
            "round": asked.place + 1,
            "query": _base64(asked.envelope),
            "survivors": _base64(survivors),
            "votes": [_base64(vote) for vote in votes],
        }
        self._rounds.write(encode(line) + b"\n")
        return _hash(encode(result.body()))


def _mechanisms(plan: Plan) -> list[Mechanism]:
    """Return the mechanism of each sum; the same in every run."""
    shared = plan.mode == "shared"
    found = []
    for planned in plan.sums:
        dimension, bound_squared, nonzeros, counts = papers.SHAPES[planned.statistic]
        found.append(
            Mechanism.planned(
                statistic=planned.statistic,
                version=planned.version,
                dimension=dimension,
                bound_squared=bound_squared,
                nonzeros=nonzeros,
                counts=counts,
                rho=planned.rho,
                n=len(plan.nodes),
                r=1,
                mode=plan.mode,
                tau=plan.quorum,
                m=plan.minimum_nodes if shared else 0,
                t=plan.colluders,
            )
        )
    return found


def _grant() -> Body:
    return {
        "enterprise": secrets.token_hex(16),
        "document": secrets.token_hex(32),
        "grade": "B",
        "purposes": ["model-training"],
        "banks": ["*"],
        "categories": ["trade"],
        "features": ["*"],
        "valid_from": "2025-01-01T00:00:00Z",
        "valid_to": "2027-06-01T00:00:00Z",
    }


def _data(node: Party) -> str:
    return papers.sha(f"data {node.id}")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
