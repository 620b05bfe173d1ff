"""Opening a node for a command that logs something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hejin_node.home import NodeHome, open_home
from hejin_trust.clock import Clock, now
from hejin_trust.own_clock import check_own_clock
from hejin_trust.witness_channel import WitnessChannel


@contextmanager
def open_to_append(path: Path, clock: Clock = now) -> Iterator[NodeHome]:
    """Open the node in `path`, if its clock can be right; the first opening founds both logs.

    raises   what `open_home` does; ClockOffError, FrozenError
    """
    with open_home(path, clock, found=False) as node:
        mirror = None if node.settings.regulator is None else dialled(node)
        check_own_clock(node, mirror)
    with open_home(path, clock) as node:
        yield node


@contextmanager
def dialled(node: NodeHome) -> Iterator[WitnessChannel]:
    """Open the door to the regulator; raises RegulatorMissingError."""
    regulator = node.charter.regulator.id
    with node.dial(regulator, node.regulator_address) as channel:
        yield WitnessChannel(channel, regulator)
