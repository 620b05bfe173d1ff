"""One opened node with its line to the regulator and its session with the bank."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from bent_mirror import BentMirror, release_log
from node_world import BANK, Receipts, World

from hejin_node import account
from hejin_node.account import Reservation
from hejin_node.home import NodeHome, open_home
from hejin_node.receipts import Fetch
from hejin_node.session import Session
from hejin_trust.clock import Clock
from hejin_trust.database import reading
from hejin_trust.envelope import REFUSAL, open_envelope
from hejin_trust.fleet import Payload
from hejin_trust.witness import Witness

RUN = "ab" * 16


@dataclass
class Node:
    """The node, opened, and what a test asks it."""

    world: World
    home: NodeHome
    mirror: BentMirror
    witness: Witness
    receipts: Receipts
    session: Session

    def ask(self, payload: Payload) -> str:
        """Return "masked" or the code of the refusal."""
        return code(self.session.answer(payload), self.home)

    def silence(self) -> None:
        """Let the regulator go away, and so long that nobody counts on it any more."""
        self.mirror.down = True
        self.witness._heard = False

    def types(self) -> list[str]:
        return [entry.type for entry in release_log(self.home)]

    def state(self, number: int = 1, run: str = RUN) -> str:
        with reading(self.home.database) as connection:
            found = account.find(connection, run, number)
        return "none" if found is None else found.state

    def spent(self) -> Fraction:
        with reading(self.home.database) as connection:
            return account.spent(connection, self.home.charter.period_from)

    def reservations(self) -> list[Reservation]:
        with reading(self.home.database) as connection:
            return account._load(connection)


@contextmanager
def opened(
    world: World, name: str = "node-1", *, clock: Clock | None = None, fetch: Fetch | None = None
) -> Iterator[Node]:
    """Open a node and start its witness; `fetch` is the bank's desk where it is not honest."""
    with open_home(world.nodes[name], clock or world.clock) as home:
        mirror = BentMirror(world.mirror.door(home.member_id))
        watch = Witness(home, mirror)
        watch.start()
        receipts = world.receipts(home)
        session = Session(home, BANK, watch, fetch or receipts)
        yield Node(world, home, mirror, watch, receipts, session)


def code(answer: Payload, home: NodeHome) -> str:
    """Return "masked", another kind, or the code of a refusal, which carries nothing else."""
    if answer["kind"] != b"refusal":
        return answer["kind"].decode()
    assert set(answer) == {"kind", "refusal"}
    opened = open_envelope(answer["refusal"], REFUSAL, home.identity.public, home.member_id)
    return str(opened.body["code"])
