"""Which nodes the bank waits for, and how long, before it gives a round up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bank_world import Wire, open_world, silent

from hejin_coordinator import store
from hejin_coordinator.errors import RunPausedError
from hejin_models.features import FeatureView
from hejin_models.training import train
from hejin_node.session import Session
from hejin_trust.database import reading
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


@pytest.mark.parametrize("spare", [0, 1])
def test_a_round_interrupted_at_one_node_does_not_wait_for_another_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    """Four of five are healthy: what only the fifth could still open is asked again, if paid."""
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack, nodes=5)

        def interrupted(payload: Payload, ask: Callable[[Payload], Payload]) -> Payload | None:
            def die(*_: object) -> None:
                raise KeyboardInterrupt

            with monkeypatch.context() as dying:
                dying.setattr(Session, "_compute", die)
                with pytest.raises(KeyboardInterrupt):
                    ask(payload)
            bank.restart("node-2")
            return bank.wire.sessions["node-2"].answer(payload)

        def gone(_: Payload, __: object) -> None:
            bank.wire.silent.add("node-5")

        bank.wire.faults["node-2", "query", 1] = interrupted
        bank.wire.faults["node-5", "query", 1] = gone
        run = bank.run(bank.propose(spare_rounds=spare))
        request = next(train(FeatureView.parse(run._stored.view)))
        if spare == 0:
            with pytest.raises(RunPausedError):
                run._sum(request)
        else:
            run._sum(request)
        with reading(bank.home.database) as connection:
            found = store.rounds(connection, run.run)
        assert [bool(each.burned) for each in found] == [True, False][1 - spare :]
