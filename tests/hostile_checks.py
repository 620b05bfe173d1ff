"""A consortium of five for hostile tests, and the check that a message is refused as it should."""

from __future__ import annotations

from base64 import b64decode, b64encode
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

from bank_world import body_of
from hostile_bank import Attack, HostileBank
from node_world import BANK, fill, found_world

from hejin_node import account
from hejin_node.home import open_home
from hejin_trust.canonical import decode, encode
from hejin_trust.database import reading
from hejin_trust.envelope import REFUSAL, open_envelope
from hejin_trust.fleet import Payload

ONE, TWO, THREE, FOUR, FIVE = NODES = tuple(f"node-{n}" for n in range(1, 6))
KNOWN = {"v", "request", "code", "reason", "time", "giver"}


def found(folder: Path, stack: ExitStack) -> HostileBank:
    """Found a consortium of five whose nodes are open."""
    world = found_world(folder, nodes=5, rho_cap=Fraction(100))
    homes = {
        name: stack.enter_context(open_home(path, world.clock))
        for name, path in world.nodes.items()
    }
    for home in homes.values():
        fill(home, world)
    return HostileBank(world, homes)


def spent(bank: HostileBank, node: str) -> Fraction:
    home = bank.homes[node]
    with reading(home.database) as connection:
        return account.spent(connection, home.charter.period_from)


def refused(attack: Attack, payload: Payload, code: str, node: str = ONE) -> None:
    """Check that a message is refused: by its code, logged, free of charge and of content."""
    bank, home = attack.bank, attack.bank.homes[node]
    before = spent(bank, node)
    with reading(home.database) as connection:
        size, internal = (
            home.release_log.size(connection),
            home.internal_log.size(connection),
        )
    answer = attack.ask(node, payload)
    assert answer.keys() == {"kind", "refusal"}, answer
    body = open_envelope(answer["refusal"], REFUSAL, home.identity.public, node).body
    assert body["code"] == code, body["reason"]
    assert body.keys() <= KNOWN
    with reading(home.database) as connection:
        assert home.release_log.size(connection) == size
        assert home.internal_log.size(connection) == internal + 1
        entry = home.internal_log.entry(connection, internal)
        stored = account.find(connection, attack.run, 1)
    assert entry.type == "refusal"
    assert entry.body == {"request": body["request"], "code": code, "peer": BANK}
    assert spent(bank, node) == before
    if stored is not None and stored.vector is not None:
        assert stored.vector[:8] not in answer["refusal"]


def contents(envelope: bytes) -> dict[str, object]:
    """Return what an envelope signs."""
    return dict(body_of(envelope))


def altered(envelope: bytes, old: bytes, new: bytes) -> bytes:
    """Return an envelope whose content was changed after it was signed."""
    outer = decode(envelope)
    payload = b64decode(str(outer["payload"])).replace(old, new, 1)
    assert payload != b64decode(str(outer["payload"]))
    return encode({**outer, "payload": b64encode(payload).decode()})
