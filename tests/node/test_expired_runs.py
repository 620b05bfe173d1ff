"""What a node keeps of a masked run whose plan expired before the bank ended it."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from bank_world import open_world

from hejin_models.features import FeatureView
from hejin_models.training import train
from hejin_node import inbox
from hejin_node.masking import run_table
from hejin_node.session import Session
from hejin_trust.database import reading


def test_a_run_whose_plan_expired_is_over_and_gets_no_second_key(tmp_path: Path) -> None:
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack, nodes=5)
        run = bank.run(bank.propose(days=1))
        run._sum(next(train(FeatureView.parse(run._stored.view))))
        home, session = bank.nodes["node-1"], bank.wire.sessions["node-1"]
        rows = list((home.path / "snapshots").iterdir())
        assert rows
        bank.world.clock.turn(timedelta(days=2))
        # Another bank's session leaves them to the one that holds them in memory too.
        Session(home, "bank-2", bank.world.witness(home), lambda *_: b"").fetch_receipts()
        with reading(home.database) as connection:
            assert connection.execute(run_table.select()).all()
        session.fetch_receipts()
        with reading(home.database) as connection:
            assert not connection.execute(run_table.select()).all()
            closed = inbox.find_run(connection, run.run)
        assert closed is not None
        assert closed.closed
        assert not list((home.path / "snapshots").iterdir())
        # The clock was wrong: the keys are gone, and a run never has two.
        bank.world.clock.turn(timedelta(days=-2))
        asked = next(p for node, p in bank.wire.asked if (node, p["kind"]) == ("node-1", b"keys"))
        assert session.answer(asked)["kind"] == b"refusal"
