"""A bank with outcomes, a node whose enterprises let it ask for them, and the mirror."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bent_mirror import BentMirror
from node_world import BANK, World, found_world, terms

from hejin_coordinator import config
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.home import open_home as open_bank
from hejin_coordinator.label_desk import Asked as DeskAsked
from hejin_coordinator.label_desk import LabelDesk
from hejin_coordinator.outcomes import definition_of, import_outcomes
from hejin_models.label_definitions import LabelDefinition
from hejin_models.uscc import make_code
from hejin_node.consent import Terms, grant_many
from hejin_node.home import NodeHome
from hejin_node.home import open_home as open_node
from hejin_node.labels import label_spec
from hejin_node.matching import Asked, Described, Given, Matched, match
from hejin_trust.channels import PeerRefused
from hejin_trust.database import reading, writing
from hejin_trust.entries import Entry, parse
from hejin_trust.errors import HejinError
from hejin_trust.settings import write_settings
from hejin_trust.witness import Witness

NODE = "node-1"
DEFINITION = "overdue90-12m-v1"
SPEC = label_spec(BANK, DEFINITION)
PERIOD = "2025"


def outcome_terms(world: World, **changes: object) -> Terms:
    """Return an authorisation that names the outcome beside all data."""
    return replace(terms(world), categories=("*", "outcome"), **changes)  # type: ignore[arg-type]


@dataclass
class DeskDoor:
    """The bank's desk in this process, as its channel is to the node: refusals come by code.

    sent, got   every message; bend: what becomes of an answer on its way
    """

    desk: LabelDesk
    world: World
    node: str = NODE
    sent: list[Asked] = field(default_factory=list)
    got: list[Given] = field(default_factory=list)

    def describe(self, definition: str) -> Described:
        try:
            return Described(*self.desk.describe(definition))
        except HejinError as refusal:
            raise PeerRefused(refusal.text.en, refusal.text.zh, refusal.code) from refusal

    def match(self, asked: Asked) -> Given:
        self.sent.append(asked)
        member = self.world.office.charter.member(self.node)
        told = DeskAsked(asked.question, asked.points, asked.entry, asked.proof)
        try:
            given = self.desk.answer(member, told)
        except HejinError as refusal:
            raise PeerRefused(refusal.text.en, refusal.text.zh, refusal.code) from refusal
        self.got.append(self.bent(Given(given.answer, given.points, given.items)))
        return self.got[-1]

    def bent(self, given: Given) -> Given:
        return given


@dataclass
class LabelWorld:
    """Both sides, opened."""

    world: World
    bank: CoordinatorHome
    node: NodeHome
    desk: LabelDesk
    door: DeskDoor
    mirror: BentMirror
    witness: Witness

    def grant(self, *numbers: int, **changes: object) -> None:
        """Let enterprises authorise the node to learn their outcomes."""
        with writing(self.node.database) as connection:
            grant_many(
                connection, self.node.internal_log, self.node.pseudonym_key,
                [(make_code(n), outcome_terms(self.world, **changes)) for n in numbers],
            )  # fmt: skip

    def book(self, outcomes: Mapping[int, int], period: str = PERIOD) -> None:
        """Let the bank import outcomes, by enterprise number."""
        write_book(self.bank, outcomes, period)

    def match(self, period: str | None = None) -> Matched:
        return match(self.node, self.witness, self.door, SPEC, period)

    def labels(self) -> dict[str, int]:
        """Return what the node's warehouse holds: code -> label."""
        found: dict[str, int] = {}
        for batch in self.node.warehouse.read("labels", SPEC.dataset):
            rows = batch.to_pydict()
            found.update(zip(rows["enterprise"], rows["label"], strict=True))
        return found

    def definition(self) -> LabelDefinition:
        return definition_of(self.bank, DEFINITION)[0]


def write_book(bank: CoordinatorHome, outcomes: Mapping[int, int], period: str = PERIOD) -> None:
    path = bank.path / "outcomes.csv"
    lines = [f"{make_code(n)},{label}\n" for n, label in outcomes.items()]
    path.write_text("enterprise,label\n" + "".join(lines))
    import_outcomes(bank, path, definition_of(bank, DEFINITION)[0], period)


def settle_bank(world: World, **changes: object) -> None:
    """Write the bank's settings; small answers unless told otherwise."""
    values = {"outcomes_declared": 64, "label_sessions_a_day": 100, **changes}
    settings = config.CoordinatorSettings(
        member=BANK, regulator_key=world.office.identity.public.hex(), **values
    )  # type: ignore[arg-type]
    write_settings(world.folder / BANK / config.FILE, settings)


@contextmanager
def label_world(
    folder: Path, *, size_band: tuple[int, int] = (5, 20), nodes: int = 1, **settings: object
) -> Iterator[LabelWorld]:
    """Found and open everything; nothing is granted and nothing imported yet."""
    world = found_world(folder, nodes, size_band=size_band)
    settle_bank(world, **settings)
    with ExitStack() as stack:
        bank = stack.enter_context(open_bank(folder / BANK, world.clock))
        node = stack.enter_context(open_node(world.nodes[NODE], world.clock))
        desk = LabelDesk(bank, world.witness(bank))
        mirror = BentMirror(world.mirror.door(NODE))
        witness = Witness(node, mirror)
        witness.start()
        yield LabelWorld(world, bank, node, desk, DeskDoor(desk, world), mirror, witness)


def entries(home: NodeHome | CoordinatorHome, *kinds: str) -> list[Entry]:
    """Return the entries of both logs of some types: internal ones first."""
    with reading(home.database) as connection:
        return [
            entry
            for log in (home.internal_log, home.release_log)
            for entry in map(parse, log.entries(connection))
            if entry.type in kinds
        ]


def codes(numbers: Sequence[int]) -> set[str]:
    return {make_code(n) for n in numbers}
