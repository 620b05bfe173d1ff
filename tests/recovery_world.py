"""Approvals of the regulator, true and false, and nodes whose database was put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bent_mirror import copy_database, put_database
from node_world import World
from witnessed_node import Node, opened

from hejin_trust.canonical import time_text
from hejin_trust.keys import SigningKey
from hejin_trust.recovery import Recovery


def recovery(world: World, member: str = "node-1", **changes: object) -> Recovery:
    """Return what the regulator approves of a member now, with fields changed."""
    true = Recovery(
        consortium=world.office.charter.consortium,
        member=member,
        reason="its disk failed",
        issued=time_text(world.clock()),
        logs=world.mirror.door(member).standing(),
    )
    return replace(true, **changes)  # type: ignore[arg-type]


def approval(
    world: World, member: str = "node-1", key: SigningKey | None = None, **changes: object
) -> bytes:
    """Return a signed approval, by another key or with fields changed."""
    signer = world.office.identity if key is None else key
    return recovery(world, member, **changes).seal(signer, world.office.charter.regulator.id)


def put_back_after(
    world: World,
    folder: Path,
    before: Callable[[Node], None],
    after: Callable[[Node], None],
    name: str = "node-1",
) -> None:
    """Work, take a backup, work on, and put the backup in the database's place; all closed."""
    with opened(world, name) as node:
        before(node)
        node.witness.refresh()
    backup = copy_database(world.nodes[name], folder / "backup.db")
    with opened(world, name) as node:
        after(node)
    put_database(backup, world.nodes[name])
