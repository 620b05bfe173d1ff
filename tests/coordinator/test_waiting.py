"""How long the bank waits for nodes that went offline between a round's trips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bank_world import Wire, open_world, silent

from hejin_models.features import FeatureView
from hejin_models.training import train
from hejin_trust.fleet import Payload


@dataclass
class Waits(Wire):
    """Remembers after how many answers nodes that are offline are not waited for."""

    enough: dict[str, int | None] = field(default_factory=dict)

    def ask(
        self,
        requests: Mapping[str, Payload],
        *,
        timeout: float,
        reissue_after: float,
        enough: int | None = None,
    ) -> Iterator[tuple[str, Payload]]:
        kind = next(iter(requests.values()))["kind"].decode()
        self.enough[kind] = enough
        return super().ask(requests, timeout=timeout, reissue_after=reissue_after, enough=enough)


def test_after_drop_outs_every_survivor_is_waited_for_before_a_round_is_burned(
    tmp_path: Path,
) -> None:
    """A quorum is not enough then: each survivor's seeds are needed, and burning costs budget."""
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack, nodes=6)
        bank.wire = wire = Waits(bank.wire.sessions)
        wire.faults["node-6", "query", 1] = silent
        run = bank.run(bank.propose(minimum_nodes=4, quorum=4, colluders=1))
        run._sum(next(train(FeatureView.parse(run._stored.view))))
        assert wire.enough == {"keys": 4, "query": 4, "survivors": 5, "votes": 5}
