"""Enterprises that authorise every mixture of things, two banks, and who may then be in which sum.

Every enterprise has a cell of its own, so that a sum without noise tells exactly who is in it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
from bank_world import Bank, Wire
from node_world import World, found_world

from hejin_coordinator import config
from hejin_coordinator.export import export as export_bank
from hejin_coordinator.home import open_home as open_bank
from hejin_coordinator.receipts import receipt_for
from hejin_models.features import FeatureView
from hejin_models.state import decode_state
from hejin_models.statistics import statistic
from hejin_models.uscc import make_code
from hejin_node.consent import grant_many, revoke
from hejin_node.export import export as export_node
from hejin_node.home import NodeHome
from hejin_node.home import open_home as open_node
from hejin_node.labels import label_spec, load_labels
from hejin_node.session import Session
from hejin_node.terms import Terms
from hejin_privacy.contribution import quantised_sum
from hejin_privacy.holdout import part_of, split_key
from hejin_privacy.messages import Query
from hejin_regulator.findings import Verification
from hejin_regulator.mirror_export import export as export_mirror
from hejin_regulator.verify import verify_export
from hejin_trust.database import writing
from hejin_trust.envelope import SUM_QUERY, open_envelope
from hejin_trust.fleet import Payload
from hejin_trust.settings import write_settings
from hejin_trust.witness import Witness

BANKS = ("bank-1", "bank-2")
CELLS = 300
PLACES = ("one", "two", "three")
FEATURES = ("staff", *PLACES)
DEFINITION = "bad-1"

HEAD = """
name = "{name}"
version = 1
source = '''{source}'''
[label]
en = "Matrix"
zh = "矩阵"
[datasets.firms]
category = "production"
[datasets.firms.columns]
staff = "number"
place = "number"
"""
DEALS = '[datasets.deals]\ncategory = "trade"\n[datasets.deals.columns]\nnet = "number"\n'
FEATURE = """
[[features]]
name = "{name}"
en = "{name}"
zh = "{name}"
unit = {{ en = "none", zh = "无" }}
grid = {{ kind = "linear", low = 0, high = {high}, cells = {cells} }}
"""
_PLACES = ", ".join(
    f"CASE WHEN place >= {n * CELLS} AND place < {(n + 1) * CELLS} THEN place - {n * CELLS} END "
    f"AS {name}"
    for n, name in enumerate(PLACES)
)
SOURCES = {
    "bank-1": f"SELECT enterprise, staff, {_PLACES} FROM firms",
    "bank-2": f"SELECT firms.enterprise, staff + coalesce(sum(net), 0) * 0 AS staff, {_PLACES} "
    "FROM firms LEFT JOIN deals ON firms.enterprise = deals.enterprise "
    "GROUP BY firms.enterprise, staff, place",
}
READS = {"bank-1": {"production"}, "bank-2": {"production", "trade"}}


def view_of(bank: str) -> bytes:
    """Return the view of a bank's plan: bank-2's reads a second category."""
    grids = [FEATURE.format(name="staff", high=100, cells=20)]
    grids += [FEATURE.format(name=name, high=CELLS, cells=CELLS) for name in PLACES]
    name = "matrix-" + bank[-1]
    deals = DEALS if bank == "bank-2" else ""
    return (HEAD.format(name=name, source=SOURCES[bank]) + deals + "".join(grids)).encode()


@dataclass(frozen=True)
class Given:
    """One authorisation as a test wants it.

    window   (first step, last step + 1) in which it is in force; see `Matrix.steps`
    revoked  the step before which it is revoked; None: never
    """

    purposes: tuple[str, ...]
    banks: tuple[str, ...]
    categories: tuple[str, ...]
    features: tuple[str, ...]
    window: tuple[int, int]
    revoked: int | None

    def allows(self, bank: str, step: int) -> bool:
        """Say, slowly and obviously, whether it covers the plan of a bank at a step."""
        if "model-training" not in self.purposes:
            return False
        if "*" not in self.banks and bank not in self.banks:
            return False
        if "*" not in self.categories:
            for category in READS[bank]:
                if category not in self.categories:
                    return False
        if "*" not in self.features:
            for feature in FEATURES:
                if feature not in self.features:
                    return False
        if not self.window[0] <= step < self.window[1]:
            return False
        return self.revoked is None or step < self.revoked


PURPOSES = (("model-training",), ("credit-approval",), ("credit-approval", "model-training"))
BANK_LISTS = (("bank-1",), ("bank-2",), BANKS, ("*",))
CATEGORIES = (("production",), ("trade",), ("production", "trade"), ("*",))
FEATURE_LISTS = (("*",), FEATURES, (*FEATURES, "more"), FEATURES[1:])
WINDOWS = ((-9, 9), (8, 9), (-9, -1), (-9, 1), (1, 9), (-9, 3), (3, 9))
"""Always, not begun, over, ends or begins in bank-1's run, ends or begins in bank-2's."""
REVOKED = (None, 0, 1, 3)


def everything(seed: int) -> list[tuple[Given, ...]]:
    """Return the grants of one enterprise for each mixture; every fifth has a second grant."""
    chance = random.Random(seed)
    mixtures = list(itertools.product(PURPOSES, BANK_LISTS, CATEGORIES, WINDOWS, REVOKED))
    chance.shuffle(mixtures)
    found = []
    for mixture in mixtures:
        purposes, banks, categories, window, revoked = mixture
        one = Given(purposes, banks, categories, chance.choice(FEATURE_LISTS), window, revoked)
        grants = [one]
        if chance.random() < 0.2:
            other = chance.choice(mixtures)
            grants.append(Given(*other[:3], chance.choice(FEATURE_LISTS), *other[3:]))
        found.append(tuple(grants))
    return found


@dataclass
class Answered:
    """One sum that a node sent: to whom, at which step, and what left."""

    node: str
    bank: str
    step: int
    payload: Payload
    vector: np.ndarray


@dataclass
class Matrix:
    """The consortium, who authorised what at which node, and what was sent.

    step   0 and 1 before and after the change in bank-1's run, 2 and 3 likewise in bank-2's
    """

    world: World
    banks: dict[str, Bank]
    nodes: dict[str, NodeHome]
    given: dict[str, dict[str, tuple[Given, ...]]]
    sent: list[Answered] = field(default_factory=list)
    step: int = 0
    seqs: dict[str, dict[Given, int]] = field(default_factory=dict)

    def moment(self, step: int) -> datetime:
        """Return when a step begins: half an hour before the clock reaches its hour."""
        return self.start + timedelta(hours=step) - timedelta(minutes=30)

    def found(self) -> None:
        self.start = self.world.clock()
        for node, home in self.nodes.items():
            self._fill(node, home)

    def _fill(self, node: str, home: NodeHome) -> None:
        given = self.given[node]
        codes = list(given)
        staff = [float(n % 100) for n in range(len(codes))]
        place = [n + 0.5 for n in range(len(codes))]
        firms = pa.table({"enterprise": codes, "staff": staff, "place": place})
        deals = pa.table({"enterprise": codes[::2], "net": [1.0] * len(codes[::2])})
        for name, table in (("firms", firms), ("deals", deals)):
            columns = {"enterprise": "text", **dict.fromkeys(table.column_names[1:], "number")}
            home.warehouse.append(name, columns, table.to_batches(), name[0] * 64)  # type: ignore[arg-type]
        labels = home.path / "labels.csv"
        rows = [f"{code},{self.label(n)}\n" for n, code in enumerate(codes)]
        labels.write_text("enterprise,label\n" + "".join(rows))
        for bank in BANKS:
            load_labels(home.warehouse, home.internal_log, labels, label_spec(bank, DEFINITION))
        wanted = [(code, one, self._terms(n, one)) for n, code in enumerate(codes)
                  for one in given[code]]  # fmt: skip
        with writing(home.database) as connection:
            log, key = home.internal_log, home.pseudonym_key
            done = grant_many(connection, log, key, [(code, t) for code, _, t in wanted])
        for (code, one, _), seq in zip(wanted, done.seqs, strict=True):
            self.seqs.setdefault(code, {})[one] = seq
        self._revoke(node, 0)

    @staticmethod
    def label(number: int) -> int:
        return int(number % 100 < 40) ^ int(number % 7 == 0)

    def _terms(self, number: int, one: Given) -> Terms:
        return Terms(
            document=f"{number:064x}",
            grade="B",
            purposes=one.purposes,  # type: ignore[arg-type]
            banks=one.banks,
            categories=one.categories,
            features=one.features,
            valid_from=self.moment(24 * one.window[0] if abs(one.window[0]) > 7 else one.window[0]),
            valid_to=self.moment(24 * one.window[1] if abs(one.window[1]) > 7 else one.window[1]),
        )

    def _revoke(self, node: str, step: int) -> None:
        home = self.nodes[node]
        seqs = [self.seqs[code][one] for code, grants in self.given[node].items()
                for one in grants if one.revoked == step]  # fmt: skip
        with writing(home.database) as connection:
            for seq in sorted(set(seqs)):
                revoke(connection, home.internal_log, "matrix", seq=seq)

    def change(self, step: int) -> None:
        """Let an hour pass, in which authorisations end, begin and are revoked."""
        if self.step == step:
            return
        self.step = step
        self.world.clock.turn(timedelta(hours=1))
        for node in self.nodes:
            self._revoke(node, step)

    def carry_out(self, bank: str, first: int, change_in: int) -> str:
        """Let a bank propose and run a plan; its round `change_in` finds another world."""
        self.change(first)
        this = self.banks[bank]
        name = f"matrix-{bank[-1]}-v1.toml"
        (self.world.folder / name).write_bytes(view_of(bank))
        digest = this.propose(view=name, definition=DEFINITION, epsilon=20.0)

        def changing(payload: Payload, ask: Callable[[Payload], Payload]) -> Payload:
            self.change(first + 1)
            return ask(payload)

        first_node = next(iter(self.nodes))
        this.wire.faults[first_node, "query", change_in] = changing

        def keep(node: str, answer: Payload) -> Payload:
            payload = this.wire.asked[-1][1]
            if answer["kind"] == b"masked":
                vector = np.frombuffer(answer["vector"], "<i8")
                self.sent.append(Answered(node, bank, self.step, payload, vector))
            return answer

        this.wire.change = keep
        this.run(digest).carry_out()
        return digest

    # -- what must have been sent --------------------------------------------------------

    def entitled(self, node: str, bank: str, step: int) -> set[str]:
        """Return who may be in a sum: entitled when the run's rows were taken, and still."""
        first = step - step % 2
        return {
            code
            for code, grants in self.given[node].items()
            if any(one.allows(bank, first) for one in grants)
            and any(one.allows(bank, step) for one in grants)
        }

    def query(self, one: Answered) -> Query:
        key = self.banks[one.bank].home.identity.public
        return Query.parse(open_envelope(one.payload["query"], SUM_QUERY, key).body)

    def expected_codes(self, one: Answered) -> set[str]:
        """Return who must be in a sum: who may, of the part that it is over."""
        query = self.query(one)
        split = split_key(query.plan, self.world.office.charter.nonce)
        holdout = self.plan(one.bank).holdout
        within = self.entitled(one.node, one.bank, one.step)
        return {code for code in within if part_of(code, split, holdout) == query.part}

    def expected(self, one: Answered) -> tuple[np.ndarray, list[str]]:
        """Return the sum, without noise, over exactly those who must be in it; and who they are."""
        query, within = self.query(one), self.expected_codes(one)
        view = FeatureView.parse(view_of(one.bank))
        codes = list(self.given[one.node])
        chosen = [n for n, code in enumerate(codes) if code in within]
        place = np.array([n + 0.5 for n in chosen])
        columns = {"staff": np.array([float(n % 100) for n in chosen])}
        for number, name in enumerate(PLACES):
            own = (place >= number * CELLS) & (place < (number + 1) * CELLS)
            columns[name] = np.where(own, place - number * CELLS, np.nan)
        labels = np.array([self.label(n) for n in chosen], np.int8)
        mechanism = query.mechanism
        total = quantised_sum(
            statistic(mechanism.statistic, mechanism.version).contribute(
                view, view.cells(columns), labels, decode_state(one.payload["state"])
            ),
            mechanism.delta_squared,
            mechanism.scale,
            mechanism.dimension,
        )
        return total, [codes[n] for n in chosen]

    def plan(self, bank: str):  # type: ignore[no-untyped-def]
        from hejin_node import inbox
        from hejin_trust.database import reading

        with reading(next(iter(self.nodes.values())).database) as connection:
            return next(o.plan for o in inbox.offers(connection) if o.plan.bank == bank)

    def verify(self, folder: Path) -> Verification:
        """Let everybody export, and the regulator verify."""
        world = self.world
        for bank in self.banks.values():
            for session in bank.wire.sessions.values():
                session.fetch_receipts()
        for bank in self.banks.values():
            Witness(bank.home, world.mirror.door(bank.home.member_id)).start()
            export_bank(bank.home, folder)
        for node in self.nodes.values():
            Witness(node, world.mirror.door(node.member_id)).start()
            export_node(node, folder)
        home = next(iter(self.banks.values())).home
        export_mirror(
            world.office, world.mirror, folder, home.now(), with_logs=False,
            progress=lambda *_: None,
        )  # fmt: skip
        return verify_export(folder, world.office.identity.public)


def open_matrix(
    folder: Path, stack: ExitStack, enterprises: Sequence[Sequence[tuple[Given, ...]]]
) -> Matrix:
    """Found two banks and a node for each list of enterprises; nobody has asked anything yet."""
    world = found_world(
        folder, len(enterprises), rho_cap=Fraction(10**4), size_band=(2000, 20_000), banks=BANKS
    )
    number = itertools.count()
    given = {
        node: {make_code(next(number)): grants for grants in mine}
        for node, mine in zip(world.nodes, enterprises, strict=True)
    }
    for path in world.nodes.values():
        for bank in BANKS:
            (path / "views" / f"matrix-{bank[-1]}-v1.toml").write_bytes(view_of(bank))
    nodes = {
        name: stack.enter_context(open_node(path, world.clock))
        for name, path in world.nodes.items()
    }
    witnesses = {name: world.witness(home) for name, home in nodes.items()}
    banks = {}
    for bank in BANKS:
        settings = config.CoordinatorSettings(
            member=bank, regulator_key=world.office.identity.public.hex()
        )
        write_settings(folder / bank / config.FILE, settings)
        home = stack.enter_context(open_bank(folder / bank, world.clock))
        sessions = {
            name: Session(node, bank, witnesses[name], _desk(home, name))
            for name, node in nodes.items()
        }
        banks[bank] = Bank(world, home, nodes, Wire(sessions))
    matrix = Matrix(world, banks, nodes, given)
    matrix.found()
    return matrix


def _desk(bank, node: str) -> Callable[[str, int], bytes]:  # type: ignore[no-untyped-def]
    return lambda run, number: receipt_for(bank, run, number, node)
