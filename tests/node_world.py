"""A regulator, a bank's keys and real node homes in one process, for tests of the session."""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from hejin_models.features import FeatureView
from hejin_models.plan import Deadlines, LabelReference, Plan, PricedSum, ViewReference
from hejin_models.pricing import mechanism_for
from hejin_models.state import State, encode_state, state_digest
from hejin_models.uscc import make_code
from hejin_node import account, offers, policy_file
from hejin_node.config import FILE, NodeSettings
from hejin_node.consent import Terms, grant_many
from hejin_node.home import NodeHome, make_secrets
from hejin_node.labels import label_spec, load_labels
from hejin_node.session import Session
from hejin_privacy.accounting import round_down
from hejin_privacy.messages import Query, Receipt, Result
from hejin_regulator import authority
from hejin_regulator.authority import Office
from hejin_regulator.mirror import LogMirror, open_mirror
from hejin_trust import membership
from hejin_trust.canonical import time_text
from hejin_trust.checkpoint import sign_checkpoint
from hejin_trust.database import reading, writing
from hejin_trust.envelope import PLAN, RECEIPT, SUM_QUERY, SUM_RESULT, open_envelope, seal
from hejin_trust.fleet import Payload
from hejin_trust.home import MemberHome
from hejin_trust.membership import Membership
from hejin_trust.origins import release_origin
from hejin_trust.settings import write_settings
from hejin_trust.text import Text
from hejin_trust.witness import Witness

BANK = "bank-1"
DEFINITION = "bad-1"

SIZE_BAND = (10, 1000)
VIEW = b"""
name = "firms"
version = 1
source = "SELECT enterprise, staff, kind FROM firms"

[label]
en = "Firms"
zh = "\xe4\xbc\x81\xe4\xb8\x9a"

[datasets.firms]
category = "production"

[datasets.firms.columns]
staff = "number"
kind = "text"

[[features]]
name = "staff"
en = "Staff"
zh = "\xe5\x91\x98\xe5\xb7\xa5"
unit = { en = "persons", zh = "\xe4\xba\xba" }
grid = { kind = "linear", low = 0, high = 100, cells = 10 }

[[features]]
name = "kind"
en = "Kind"
zh = "\xe7\xb1\xbb\xe5\x88\xab"
unit = { en = "category", zh = "\xe7\xb1\xbb\xe5\x88\xab" }
grid = { kind = "categories", values = ["a", "b"] }
"""


@dataclass
class Clock:
    """A clock that a test can turn."""

    moment: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.moment

    def turn(self, step: timedelta) -> None:
        self.moment += step


@dataclass
class World:
    """A founded consortium: the regulator's office, the bank's membership, node folders.

    bank   the one that proposes and asks; see `seen_by`
    """

    folder: Path
    office: Office
    bank: Membership
    nodes: dict[str, Path]
    view: FeatureView
    clock: Clock
    _open: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def mirror(self) -> LogMirror:
        """The regulator's mirror, opened in this process by the same clock."""
        weakref.finalize(self, self._open.close)
        return self._open.enter_context(open_mirror(self.office, self.clock))

    def seen_by(self, bank: str) -> World:
        """Return this world with another of its banks in the place of `bank`."""
        key = self.office.identity.public
        other = replace(self, bank=membership.load(self.folder / bank, bank, "bank", key))
        other.__dict__["mirror"] = self.mirror
        return other

    def witness(self, home: MemberHome) -> Witness:
        """Return a started witness of a member's logs."""
        witness = Witness(home, self.mirror.door(home.member_id))
        witness.start()
        return witness

    def propose(
        self,
        *,
        rho: Fraction = Fraction(1, 10),
        sums: Sequence[tuple[str, str]] = (("label_histogram", "train"), ("histogram", "train")),
        **changes: object,
    ) -> tuple[bytes, str, Plan]:
        """Return (envelope, hash, plan) of a signed plan; the sums of a part share rho equally."""
        sizes = {part: sum(1 for _, p in sums if p == part) for part in ("train", "holdout")}
        plan = Plan(
            bank=self.bank.member,
            consortium=self.office.charter.consortium,
            charter=self.office.charter.digest,
            purpose="model-training",
            product="test",
            view=ViewReference(self.view.name, self.view.version, self.view.digest),
            grade="core",
            as_of=None,
            label=LabelReference("default", DEFINITION, self.bank.member),
            family="scorecard",
            mode="node",
            nodes=tuple(sorted(self.nodes)),
            minimum_nodes=1,
            quorum=0,
            colluders=0,
            deadlines=Deadlines(),
            holdout=Fraction(1, 5),
            rho_train=rho,
            rho_holdout=rho,
            sums=tuple(
                PricedSum(name, 1, "train" if part == "train" else "holdout",
                          round_down(rho / sizes[part]))
                for name, part in sums
            ),
            created=self.clock(),
            expires=self.clock() + timedelta(days=30),
            nonce=secrets.token_hex(16),
        )  # fmt: skip
        plan = replace(plan, **changes)  # type: ignore[arg-type]
        envelope = seal(PLAN, plan.body(), self.bank.identity, self.bank.member)
        return envelope, open_envelope(envelope, PLAN, self.bank.identity.public).digest, plan

    def query(
        self,
        plan: Plan,
        digest: str,
        *,
        run: str,
        number: int = 1,
        index: int = 0,
        state: State | None = None,
        previous: str = "",
        result: bytes = b"",
        forged_state: bytes | None = None,
        forged: Mapping[str, object] | None = None,
    ) -> Payload:
        """Return the message of one round as an honest bank sends it, or with fields `forged`."""
        state = {} if state is None else state
        encoded = encode_state(state) if forged_state is None else forged_state
        query = Query(
            run=run,
            plan=digest,
            round=number,
            sum=index,
            part=plan.sums[index].part,
            state=state_digest(encoded),
            previous=previous,
            mechanism=mechanism_for(plan, plan.sums[index], self.view, state, 1),
        )
        query = replace(query, **(forged or {}))  # type: ignore[arg-type]
        return {
            "kind": b"query",
            "query": seal(SUM_QUERY, query.body(), self.bank.identity, self.bank.member),
            "state": encoded,
            "result": result,
        }

    def result(self, answer: Payload) -> tuple[bytes, str]:
        """Return (envelope, digest) of a result that names this one answer."""
        header = open_envelope_body(answer["header"], self)
        result = Result(
            run=str(header["run"]),
            round=int(str(header["round"])),
            round_ctx=str(header["round_ctx"]),
            survivors=(str(header["node"]),),
            total="0" * 64,
        )
        envelope = seal(SUM_RESULT, result.body(), self.bank.identity, self.bank.member)
        return envelope, open_envelope(envelope, SUM_RESULT, self.bank.identity.public).digest

    def bank_checkpoint(self) -> str:
        """Return a checkpoint of the bank's log."""
        origin = release_origin(self.office.charter.consortium, "bank", self.bank.member)
        return sign_checkpoint(origin, 1, bytes(32), self.bank.log_key)

    def receipts(self, home: NodeHome, **changes: object) -> Receipts:
        """Return a bank desk that gives receipts for what `home` released."""
        return Receipts(self, home, changes)


@dataclass
class Receipts:
    """What the bank's ReceiptService would answer; `changes` falsifies, `down` is silent."""

    world: World
    home: NodeHome
    changes: dict[str, object]
    down: bool = False

    def __call__(self, run: str, number: int) -> bytes:
        from hejin_trust.channels import PeerUnreachable

        if self.down:
            raise PeerUnreachable("the bank does not answer", "银行没有应答")
        with reading(self.home.database) as connection:
            found = account.find(connection, run, number)
        assert found is not None
        assert found.header is not None
        opened = open_envelope(
            found.header, "hejin/secure-sum/v1/masked", self.home.identity.public
        )
        receipt = Receipt(
            run=run,
            round=number,
            node=self.home.member_id,
            header=opened.digest,
            vector=str(opened.body["vector"]),
            checkpoint=self.world.bank_checkpoint(),
            time=time_text(self.world.clock()),
        )
        receipt = replace(receipt, **self.changes)  # type: ignore[arg-type]
        return seal(RECEIPT, receipt.body(), self.world.bank.identity, self.world.bank.member)


def open_envelope_body(header: bytes, world: World) -> dict[str, object]:
    """Return the body of a node's header, its signature checked."""
    from hejin_trust.envelope import SUM_MASKED, peek_signer

    node = world.office.charter.member(peek_signer(header))
    return open_envelope(header, SUM_MASKED, node.identity_key).body


def found_world(
    folder: Path,
    nodes: int = 1,
    rho_cap: Fraction = Fraction(1, 2),
    size_band: tuple[int, int] = SIZE_BAND,
    rho_alone_cap: Fraction | None = None,
    banks: Sequence[str] = (BANK,),
) -> World:
    """Found a consortium in `folder`; the nodes are admitted, and hold nothing yet."""
    clock = Clock()
    authority.init(
        folder / "regulator",
        authority.Terms(
            consortium="test",
            regulator="regulator",
            name=Text("Regulator", "监管方"),
            rho_cap=rho_cap,
            rho_alone_cap=rho_alone_cap or rho_cap,
            delta=Fraction(1, 10**6),
            period_from=clock(),
            period_to=clock() + timedelta(days=365),
            minimum_nodes=1,
            minimum_enterprises=1,
            r=1,
        ),
        clock(),
    )
    office = Office(folder / "regulator")
    key = office.identity.public
    requests = [
        membership.found(folder / bank, member=bank, role="bank", name=Text("Bank", "银行"))
        for bank in banks
    ]
    homes = {f"node-{n}": folder / f"node-{n}" for n in range(1, nodes + 1)}
    for name, path in homes.items():
        requests.append(
            membership.found(
                path, member=name, role="node", name=Text(name, name), size_band=size_band
            )
        )
        make_secrets(path)
        write_settings(path / FILE, NodeSettings(member=name, regulator_key=key.hex()))
        (path / policy_file.FILE).write_bytes(policy_file.starter(size_band, grade="core"))
        (path / "views").mkdir()
        (path / "views" / "firms-v1.toml").write_bytes(VIEW)
    for admitted in office.admit(requests, folder / "admissions", clock()):
        membership.join(
            folder / admitted.member.id, admitted.member.id, key, admitted.file.read_bytes()
        )
    bank = membership.load(folder / BANK, BANK, "bank", key)
    return World(folder, office, bank, homes, FeatureView.parse(VIEW), clock)


def fill(home: NodeHome, world: World, count: int = 40, *, authorised: int | None = None) -> None:
    """Give a node `count` enterprises with labels, the first `authorised` of them authorised."""
    codes = [make_code(n) for n in range(count)]
    table = pa.table(
        {
            "enterprise": codes,
            "staff": pa.array([float(n % 100) for n in range(count)], pa.float64()),
            "kind": ["a" if n % 3 else "b" for n in range(count)],
        }
    )
    home.warehouse.append(
        "firms", {"enterprise": "text", "staff": "number", "kind": "text"},
        table.to_batches(), "0" * 64,
    )  # fmt: skip
    labels = home.path / "labels.csv"
    labels.write_text(
        "enterprise,label\n" + "".join(f"{code},{n % 2}\n" for n, code in enumerate(codes))
    )
    load_labels(home.warehouse, home.internal_log, labels, label_spec(BANK, DEFINITION))
    entitled = codes if authorised is None else codes[:authorised]
    with writing(home.database) as connection:
        grant_many(
            connection,
            home.internal_log,
            home.pseudonym_key,
            [(code, terms(world)) for code in entitled],
        )


def terms(world: World) -> Terms:
    """Return an authorisation for everything this world asks."""
    return Terms(
        document="1" * 64,
        grade="B",
        purposes=("model-training",),
        banks=(BANK,),
        categories=("*",),
        features=("*",),
        valid_from=world.clock() - timedelta(days=1),
        valid_to=world.clock() + timedelta(days=365),
    )


def approved(home: NodeHome, world: World, **wanted: object) -> tuple[Plan, str]:
    """Let the bank propose a plan and the node approve it."""
    envelope, digest, plan = world.propose(**wanted)  # type: ignore[arg-type]
    offers.receive(home, envelope)
    offers.approve(home, digest, "test")
    return plan, digest


def new_session(home: NodeHome, receipts: Receipts) -> Session:
    """Return a session with the bank."""
    world = receipts.world
    return Session(home, world.bank.member, world.witness(home), receipts)
