"""A bank and real node homes in one process: rounds without sockets, for tests of the bank."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from node_world import BANK, VIEW, World, fill, found_world

from hejin_coordinator import config, desk, store
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.home import open_home as open_bank
from hejin_coordinator.rounds import PlanRun
from hejin_coordinator.service import receipt_for
from hejin_node import offers
from hejin_node.home import NodeHome
from hejin_node.home import open_home as open_node
from hejin_node.session import Session
from hejin_trust.database import reading, writing
from hejin_trust.fleet import Payload
from hejin_trust.settings import write_settings


@dataclass
class Wire:
    """Carries questions straight to sessions; `change` may forge, `silent` does not answer."""

    sessions: dict[str, Session]
    silent: set[str] = field(default_factory=set)
    change: Callable[[str, Payload], Payload] = lambda _, answer: answer
    asked: list[tuple[str, Payload]] = field(default_factory=list)

    def ask(
        self,
        requests: Mapping[str, Payload],
        *,
        timeout: float,
        reissue_after: float,
        enough: int | None = None,
    ) -> Iterator[tuple[str, Payload]]:
        for node, payload in requests.items():
            self.asked.append((node, payload))
            if node not in self.silent:
                yield node, self.change(node, self.sessions[node].answer(payload))


@dataclass
class Bank:
    """An opened bank and its opened nodes."""

    world: World
    home: CoordinatorHome
    nodes: dict[str, NodeHome]
    wire: Wire

    def propose(self, **plan: object) -> str:
        """Offer a plan and let every node approve it; return its hash."""
        values: dict[str, object] = {
            "product": "test", "view": "firms-1.toml", "definition": "bad-1", "epsilon": 5.0,
            **plan,
        }  # fmt: skip
        folder = self.world.folder
        (folder / "firms-1.toml").write_bytes(VIEW)
        lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
        (folder / "plan.toml").write_text("\n".join(lines), encoding="utf-8")
        proposed = desk.propose(self.home, folder / "plan.toml", start_when_answered=False)
        with reading(self.home.database) as connection:
            stored = store.find_plan(connection, proposed.digest)
        for name, node in self.nodes.items():
            offers.receive(node, stored.envelope)
            offers.approve(node, proposed.digest, "test")
            with writing(self.home.database) as connection:
                store.store_answer(connection, proposed.digest, name, True, b"")
        return proposed.digest

    def run(self, digest: str) -> PlanRun:
        """Return the run of a plan over the wire, as the worker makes it."""
        with reading(self.home.database) as connection:
            stored = store.find_plan(connection, digest)
        return PlanRun(self.home, stored, tuple(self.nodes), self.wire, lambda *_: None)


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else str(value)


def open_world(folder: Path, stack: ExitStack, *, nodes: int = 3, firms: int = 400) -> Bank:
    """Found and open a consortium whose nodes hold `firms` enterprises each."""
    world = found_world(folder, nodes, rho_cap=Fraction(100), size_band=(firms, 2 * firms))
    key = world.office.identity.public.hex()
    write_settings(
        folder / BANK / config.FILE,
        config.CoordinatorSettings(member=BANK, regulator_key=key),
    )
    home = stack.enter_context(open_bank(folder / BANK, world.clock))
    opened = {
        name: stack.enter_context(open_node(path, world.clock))
        for name, path in world.nodes.items()
    }
    for node in opened.values():
        fill(node, world, firms)
    sessions = {
        name: Session(
            node, BANK, lambda run, number, name=name: receipt_for(home, run, number, name)
        )
        for name, node in opened.items()
    }
    return Bank(world, home, opened, Wire(sessions))
