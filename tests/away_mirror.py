"""A regulator that members of a test's world cannot reach for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from node_world import World

from hejin_trust.channels import PeerUnreachable
from hejin_trust.home import MemberHome
from hejin_trust.mirroring import LogStanding, LogUpdate, Mirror
from hejin_trust.witness import Witness

T = TypeVar("T")


@dataclass
class Line:
    """Who cannot reach the regulator now, and every witness that was started."""

    cut: set[str] = field(default_factory=set)
    witnesses: list[Witness] = field(default_factory=list)

    def cut_off(self, *members: str) -> None:
        """Cut members off, and let time pass: the regulator is not counted as there any more."""
        self.cut |= set(members)
        for witness in self.witnesses:
            if witness._home.member_id in members:
                witness._heard = False


@dataclass
class FarMirror:
    """A door to the mirror that may be out of reach."""

    door: Mirror
    member: str
    line: Line

    def standing(self) -> tuple[LogStanding, ...]:
        return self._asked(self.door.standing)

    def add(self, updates: Sequence[LogUpdate]) -> tuple[str, ...]:
        return self._asked(lambda: self.door.add(updates))

    def entries(self, origin: str, start: int) -> tuple[bytes, ...]:
        return self._asked(lambda: self.door.entries(origin, start))

    def charter_serial(self) -> int:
        return self.door.charter_serial()

    def charter(self) -> bytes:
        return self._asked(self.door.charter)

    def _asked(self, ask: Callable[[], T]) -> T:
        if self.member in self.line.cut:
            raise PeerUnreachable("the regulator does not answer", "监管方没有应答")
        return ask()


def far_regulator(monkeypatch: pytest.MonkeyPatch) -> Line:
    """Let every witness that a world gives from now on go over a line that may be cut."""
    line = Line()

    def witness(self: World, home: MemberHome) -> Witness:
        door = FarMirror(self.mirror.door(home.member_id), home.member_id, line)
        made = Witness(home, door)
        made.start()
        line.witnesses.append(made)
        return made

    monkeypatch.setattr(World, "witness", witness)
    return line
