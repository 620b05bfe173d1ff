"""A consortium in one process without sockets: real homes, sessions and rounds, for measuring.

Only the carrier differs from the network: a question is handed to the node's session as a call,
one node after the other, so that a process's CPU time is that of the protocol alone.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hejin_coordinator import config as bank_config
from hejin_coordinator import desk, store
from hejin_coordinator.asking import Answers
from hejin_coordinator.config import CoordinatorSettings
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.home import open_home as open_bank
from hejin_coordinator.receipts import receipt_for
from hejin_coordinator.registry import Model, register
from hejin_coordinator.rounds import PlanRun
from hejin_models.families import FamilyResult
from hejin_models.features import ColumnType, FeatureView
from hejin_node import config as node_config
from hejin_node import inbox, offers, policy_file
from hejin_node.config import NodeSettings
from hejin_node.consent import grant_many
from hejin_node.home import NodeHome, make_secrets
from hejin_node.home import open_home as open_node
from hejin_node.labels import label_spec, load_labels
from hejin_node.quality_check import check
from hejin_node.session import Session
from hejin_node.terms import Terms
from hejin_privacy.accounting import epsilon
from hejin_regulator import authority
from hejin_regulator.authority import Office
from hejin_regulator.mirror import LogMirror, open_mirror
from hejin_sandbox.consortium import CONSORTIUM, DEFINITION, HOLDOUT, plans_cap, size_band
from hejin_sandbox.inputs import NodeData, only_dataset
from hejin_sandbox.tables import BANK, REGULATOR
from hejin_trust import membership
from hejin_trust.authorisation import ANY
from hejin_trust.clock import now
from hejin_trust.database import reading, writing
from hejin_trust.fleet import Payload
from hejin_trust.home import MemberHome
from hejin_trust.settings import write_settings
from hejin_trust.text import Text
from hejin_trust.witness import Witness

# Grants of one transaction: their log entries are held in memory until it ends, 2 KB each.
_GRANTS_AT_ONCE = 50_000
_PERIOD = dt.timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a carried-out plan left: the registered model, and the result that it was made of."""

    model: Model
    result: FamilyResult


class MemoryTransport:
    """Carries questions to sessions of this process, one after the other (asking.Transport)."""

    def __init__(self, sessions: Mapping[str, Session]) -> None:
        self._sessions = sessions

    def ask(
        self,
        requests: Mapping[str, Payload],
        *,
        timeout: float,
        reissue_after: float,
        enough: int | None = None,
    ) -> Answers:
        """Yield (node, answer); nodes whose turn comes after `timeout` seconds are not asked.

        reissue_after, enough   not needed: a call does not get lost, and nobody is away
        """
        del reissue_after, enough
        end = time.monotonic() + timeout
        for node, payload in requests.items():
            if time.monotonic() >= end:
                return
            yield node, self._sessions[node].answer(payload)

    def online(self) -> set[str]:
        """Return every node: a session is always there."""
        return set(self._sessions)


class MemoryConsortium:
    """A bank and its nodes, opened; made by `memory_consortium`."""

    def __init__(
        self,
        folder: Path,
        bank: CoordinatorHome,
        nodes: Mapping[str, NodeHome],
        mirror: LogMirror,
    ) -> None:
        self.bank, self.nodes, self.mirror = bank, nodes, mirror
        self._folder = folder
        self.witnesses = {name: self._witness(home) for name, home in nodes.items()}
        self.sessions: dict[str, Session] = {}
        for name, home in nodes.items():
            receipt = partial(self._receipt, name)
            self.sessions[name] = Session(home, BANK, self.witnesses[name], receipt)

    def propose(
        self,
        epsilon: float,
        as_of: dt.date | None = None,
        family: str = "scorecard",
        mode: str = "node",
    ) -> str:
        """Let the bank propose a model and every node approve it; return the plan's hash.

        mode     noise mode, node or shared
        raises   what `desk.propose` and `offers.approve` raise: too much noise, no budget left
        """
        plan = write_plan(self._folder / "plan.toml", epsilon, as_of, family, mode)
        proposed = desk.propose(self.bank, plan, start_when_answered=False)
        with reading(self.bank.database) as connection:
            envelope = store.find_plan(connection, proposed.digest).envelope
        for name, home in self.nodes.items():
            digest = offers.receive(home, envelope)
            offers.approve(home, digest, "memory")
            with writing(self.bank.database) as connection:
                store.store_answer(connection, digest, name, True, _approval(home, digest))
        return proposed.digest

    def train(
        self, plan: str, progress: Callable[[int, int, str], None] = lambda *_: None
    ) -> Trained:
        """Carry an approved plan out over all nodes and register its model.

        progress  told (index, sums, statistic) before each private sum
        """
        with reading(self.bank.database) as connection:
            stored = store.find_plan(connection, plan)
        transport = MemoryTransport(self.sessions)
        witness = self._witness(self.bank)
        run = PlanRun(self.bank, stored, tuple(sorted(self.nodes)), transport, progress, witness)
        result = run.carry_out()
        return Trained(register(self.bank, stored, run.run, result), result)

    def _witness(self, home: MemberHome) -> Witness:
        witness = Witness(home, self.mirror.door(home.member_id))
        witness.start()
        return witness

    def _receipt(self, node: str, run: str, number: int) -> bytes:
        return receipt_for(self.bank, run, number, node)


@contextmanager
def memory_consortium(
    folder: Path,
    nodes: Sequence[NodeData],
    view_file: bytes,
    *,
    epsilon_cap: float,
    delta: Fraction = Fraction(1, 10**6),
) -> Iterator[MemoryConsortium]:
    """Found a consortium in the empty `folder`, give each node its data, and open it.

    view_file    bytes of the feature view that every node installs
    epsilon_cap  what plans may cost every enterprise in the year, at the charter's `delta`, if
                 every sum is asked once; the charter's own cap has room for their spare rounds
    """
    sizes = {node.id: len(node.codes) for node in nodes}
    found_homes(folder, sizes, view_file, epsilon_cap=epsilon_cap, delta=delta)
    for node in nodes:
        fill(folder, node)
    with open_consortium(folder, tuple(sizes)) as consortium:
        yield consortium


@contextmanager
def open_consortium(folder: Path, nodes: Sequence[str]) -> Iterator[MemoryConsortium]:
    """Open a bank and `nodes` that `found_homes` and `fill` made in `folder`."""
    with ExitStack() as opened:
        bank = opened.enter_context(open_bank(folder / BANK))
        homes = {node: opened.enter_context(open_node(folder / node)) for node in nodes}
        mirror = opened.enter_context(open_mirror(Office(folder / REGULATOR)))
        yield MemoryConsortium(folder, bank, homes, mirror)


def found_homes(
    folder: Path,
    sizes: Mapping[str, int],
    view_file: bytes,
    *,
    epsilon_cap: float,
    delta: Fraction = Fraction(1, 10**6),
) -> Office:
    """Make the homes `folder`/MEMBER of a regulator, a bank and nodes that have joined.

    sizes    node -> number of its enterprises; the nodes have the view installed, and no data
    returns  the regulator's office
    """
    cap = plans_cap(epsilon_cap, float(delta))
    at = now()
    terms = authority.Terms(
        consortium=CONSORTIUM,
        regulator=REGULATOR,
        name=Text("Sandbox regulator", "沙箱监管端"),
        rho_cap=cap,
        rho_alone_cap=cap * len(sizes),
        delta=delta,
        period_from=at,
        period_to=at + _PERIOD,
        minimum_nodes=1,
        minimum_enterprises=1,
        r=1,
    )
    authority.init(folder / REGULATOR, terms, at)
    office = Office(folder / REGULATOR)
    key = office.identity.public
    requests = [
        membership.found(folder / BANK, member=BANK, role="bank", name=Text("Bank", "银行")),
        *(_found_node(folder / node, node, size) for node, size in sizes.items()),
    ]
    for admitted in office.admit(requests, folder / "admissions", at):
        member = admitted.member.id
        membership.join(folder / member, member, key, admitted.file.read_bytes())
    bank = CoordinatorSettings(member=BANK, regulator_key=key.hex())
    write_settings(folder / BANK / bank_config.FILE, bank)
    (folder / "view.toml").write_bytes(view_file)
    for node, size in sizes.items():
        settings = NodeSettings(member=node, regulator_key=key.hex())
        write_settings(folder / node / node_config.FILE, settings)
        # It approves whatever the charter's cap allows.
        policy = policy_file.starter(size_band(size), epsilon(cap, float(delta)), "core")
        (folder / node / policy_file.FILE).write_bytes(policy)
        views = folder / node / "views"
        views.mkdir()
        (views / "view.toml").write_bytes(view_file)
    return office


def fill(folder: Path, node: NodeData) -> None:
    """Give the node in `folder` its records, labels, and all authorisations for the bank."""
    with open_node(folder / node.id) as home:
        view = FeatureView.load(folder / "view.toml")
        dataset = only_dataset(view)
        source = hashlib.sha256(f"memory {node.id}".encode()).hexdigest()
        columns: dict[str, ColumnType] = {"enterprise": "text", **dataset.columns}
        home.warehouse.append(dataset.name, columns, node.records.to_batches(), source)
        # A plan is approved over data whose quality is known.
        check(home.warehouse, home.schemas(), dataset.name, home.now())
        labels = home.path / "labels.parquet"
        pq.write_table(pa.table({"enterprise": node.codes, "label": node.labels}), labels)
        load_labels(home.warehouse, home.internal_log, labels, label_spec(BANK, DEFINITION))
        labels.unlink()
        terms = Terms(
            document="0" * 64,
            grade="B",
            purposes=("model-training",),
            banks=(BANK,),
            categories=(dataset.category,),
            features=(ANY,),
            valid_from=home.now() - dt.timedelta(days=1),
            valid_to=home.now() + _PERIOD,
        )
        grants = ((code, terms) for code in node.codes)
        while some := list(islice(grants, _GRANTS_AT_ONCE)):
            with writing(home.database) as connection:
                grant_many(connection, home.internal_log, home.pseudonym_key, some)


def write_plan(
    path: Path,
    epsilon: float,
    as_of: dt.date | None = None,
    family: str = "scorecard",
    mode: str = "node",
) -> Path:
    """Write the plan of a model on the view that lies beside it; return `path`."""
    lines = [
        'product = "memory"',
        'view = "view.toml"',
        f"family = {json.dumps(family)}",
        f"mode = {json.dumps(mode)}",
        f"definition = {json.dumps(DEFINITION)}",
        f"epsilon = {epsilon!r}",
        f"holdout = {json.dumps(HOLDOUT)}",
        *([] if as_of is None else [f"as_of = {as_of}"]),
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _found_node(home: Path, member: str, size: int) -> Path:
    name = Text(member, member)
    make_secrets(home)
    return membership.found(home, member=member, role="node", name=name, size_band=size_band(size))


def _approval(home: NodeHome, digest: str) -> bytes:
    with reading(home.database) as connection:
        document = inbox.find_offer(connection, digest).document
    assert document is not None
    return document
