"""A bank and real node homes in one process: rounds without sockets, for tests of the bank."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node_world import BANK, VIEW, World, fill, found_world

from hejin_coordinator import config, desk, store
from hejin_coordinator.export import export as export_bank
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.home import open_home as open_bank
from hejin_coordinator.receipts import receipt_for
from hejin_coordinator.rounds import PlanRun
from hejin_node import offers
from hejin_node.export import export as export_node
from hejin_node.home import NodeHome
from hejin_node.home import open_home as open_node
from hejin_node.results import void_interrupted
from hejin_node.session import Session
from hejin_privacy.secure_sum import masks
from hejin_privacy.secure_sum import node as masking_node
from hejin_regulator.authority import Office
from hejin_regulator.mirror import LogMirror
from hejin_regulator.mirror_export import export as export_mirror
from hejin_regulator.verify import verify_export
from hejin_trust import canonical
from hejin_trust.database import reading, writing
from hejin_trust.fleet import Payload
from hejin_trust.settings import write_settings
from hejin_trust.witness import Witness

Place = tuple[str, str, int]
"""A message on its way: node, kind, round (0 for keys)."""

Fault = Callable[[Payload, Callable[[Payload], Payload]], Payload | None]
"""What becomes of a message and its answer; None: the bank hears nothing."""


def silent(payload: Payload, ask: Callable[[Payload], Payload]) -> Payload | None:
    """The message does not arrive."""
    return None


def lost(payload: Payload, ask: Callable[[Payload], Payload]) -> Payload | None:
    """The message arrives; its answer does not."""
    ask(payload)
    return None


@dataclass
class Wire:
    """Carries questions straight to sessions; `change` may forge, `silent` does not answer.

    faults   what happens to the message of one place, each time it is sent
    now      the place of the message that a session is answering
    """

    sessions: dict[str, Session]
    silent: set[str] = field(default_factory=set)
    change: Callable[[str, Payload], Payload] = lambda _, answer: answer
    asked: list[tuple[str, Payload]] = field(default_factory=list)
    faults: dict[Place, Fault] = field(default_factory=dict)
    now: Place = ("", "", 0)

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
            if node in self.silent:
                continue
            self.now = place_of(node, payload)
            fault = self.faults.get(self.now)
            ask = self.sessions[node].answer
            answer = ask(payload) if fault is None else fault(payload, ask)
            if answer is not None:
                yield node, self.change(node, answer)

    def online(self) -> set[str]:
        return self.sessions.keys() - self.silent

    def sent(self, kind: str) -> list[Place]:
        """Return where messages of one kind went, in order."""
        places = [place_of(node, payload) for node, payload in self.asked]
        return [place for place in places if place[1] == kind]


def place_of(node: str, payload: Payload) -> Place:
    """Return the place of a message; of a last result, its round."""
    kind = payload["kind"].decode()
    signed = {"survivors": "survivors", "votes": "survivors"}.get(kind, kind)
    body = body_of(payload[signed]) if signed in payload else {}
    return node, kind, int(str(body.get("round", 0)))


def body_of(envelope: bytes) -> Mapping[str, Any]:
    """Return what an envelope signs, its signature unchecked."""
    outer: Mapping[str, Any] = canonical.decode(envelope, max_bytes=1 << 20)
    return canonical.decode(base64.b64decode(outer["payload"]), max_bytes=1 << 20)


@dataclass
class Bank:
    """An opened bank and its opened nodes."""

    world: World
    home: CoordinatorHome
    nodes: dict[str, NodeHome]
    wire: Wire

    def restart(self, node: str) -> None:
        """Let a node die and start again: what was in memory is gone."""
        home = self.nodes[node]
        witness = self.world.witness(home)
        void_interrupted(home)
        self.wire.sessions[node] = Session(
            home, BANK, witness, lambda run, number: receipt_for(self.home, run, number, node)
        )

    def restarting(self, node: str) -> Fault:
        """Return the fault that the node restarts just before a message comes."""

        def fault(payload: Payload, _: Callable[[Payload], Payload]) -> Payload | None:
            self.restart(node)
            return self.wire.sessions[node].answer(payload)

        return fault

    def propose(self, **plan: object) -> str:
        """Offer a plan and let every node approve it; return its hash."""
        values: dict[str, object] = {
            "product": "test", "view": "firms-v1.toml", "definition": "bad-1", "epsilon": 5.0,
            **plan,
        }  # fmt: skip
        folder = self.world.folder
        (folder / "firms-v1.toml").write_bytes(VIEW)
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
        return PlanRun(
            self.home,
            stored,
            tuple(self.nodes),
            self.wire,
            lambda *_: None,
            self.world.witness(self.home),
        )


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else str(value)


def keep_vectors(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> dict[tuple[str, int], list[np.ndarray]]:
    """Keep what nodes are about to mask, noise included, by node and round."""
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    add_masks = masks.add_masks

    def kept(vector: np.ndarray, keys: object) -> None:
        node, _, number = wire.now
        found.setdefault((node, number), []).append(vector.copy())
        add_masks(vector, keys)  # type: ignore[arg-type]

    monkeypatch.setattr(masking_node, "add_masks", kept)
    return found


def findings(bank: Bank, folder: Path) -> tuple[object, ...]:
    """Return what the regulator finds once the nodes have asked for the bank's word."""
    for session in bank.wire.sessions.values():
        session.fetch_receipts()
    world = bank.world
    export_all(folder, world.office, world.mirror, bank.home, bank.nodes.values())
    return verify_export(folder, world.office.identity.public).findings


def export_all(
    folder: Path,
    office: Office,
    mirror: LogMirror,
    bank: CoordinatorHome,
    nodes: Iterable[NodeHome],
) -> None:
    """Let every member mirror what is new and export; then the regulator adds its part."""
    Witness(bank, mirror.door(bank.member_id)).start()
    export_bank(bank, folder)
    for node in nodes:
        Witness(node, mirror.door(node.member_id)).start()
        export_node(node, folder)
    export_mirror(office, mirror, folder, bank.now(), with_logs=False, progress=lambda *_: None)


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
    bank = Bank(world, home, opened, Wire({}))
    for name in opened:
        bank.restart(name)
    return bank
