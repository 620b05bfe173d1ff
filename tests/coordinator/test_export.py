"""The bank's part of an export: everything that proves plans, rosters and rounds, byte for byte."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bank_world import Bank, lost, open_world
from node_world import BANK, VIEW

from hejin_coordinator import store
from hejin_coordinator.export import export
from hejin_coordinator.rounds import PlanRun
from hejin_models.features import FeatureView
from hejin_models.plan import Plan
from hejin_models.training import train
from hejin_privacy.messages import Query
from hejin_privacy.secure_sum.documents import SurvivorSet
from hejin_privacy.secure_sum.keys import KeyAd
from hejin_trust import canonical
from hejin_trust.certificates import fingerprint
from hejin_trust.database import reading
from hejin_trust.envelope import (
    PLAN,
    SUM_KEYAD,
    SUM_QUERY,
    SUM_SURVIVORS,
    SUM_VOTE,
    open_envelope,
)
from hejin_trust.export import ExportError


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bank, PlanRun, Path]]:
    """A masked run: one opened round, one that was burned, one that is open; and its export."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("bank")
        bank = open_world(folder, stack, nodes=5)
        run = bank.run(bank.propose(spare_rounds=1))
        training = train(FeatureView.parse(run._stored.view))
        total = run._sum(next(training))
        for node in ("node-4", "node-5"):
            bank.wire.faults[node, "survivors", 2] = lost
        run._sum(training.send(total))
        export(bank.home, folder / "export")
        yield bank, run, folder / "export" / BANK


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a file of lines; each must be its own canonical form."""
    lines = path.read_bytes().splitlines()
    assert all(canonical.encode(json.loads(line)) == line for line in lines)
    return [json.loads(line) for line in lines]


def unpacked(texts: list[str]) -> list[bytes]:
    return [base64.b64decode(text, validate=True) for text in texts]


def test_plans_and_their_views_lie_under_their_hashes(
    masked: tuple[Bank, PlanRun, Path],
) -> None:
    bank, run, folder = masked
    digest, key = run._stored.digest, bank.home.identity.public
    opened = open_envelope((folder / "documents" / f"{digest}.json").read_bytes(), PLAN, key)
    assert opened.digest == digest
    named = Plan.parse(opened.body).view.sha256
    view = (folder / "documents" / f"{named}.view").read_bytes()
    assert view == VIEW
    assert hashlib.sha256(view).hexdigest() == named


def test_a_masked_run_is_there_with_every_nodes_key_and_certificate(
    masked: tuple[Bank, PlanRun, Path],
) -> None:
    bank, run, folder = masked
    (row,) = rows(folder / "rosters.jsonl")
    assert (row["run"], row["plan"]) == (run.run, run._stored.digest)
    certificates = unpacked(row["certificates"])
    for name, keyad, pem in zip(
        sorted(bank.nodes), unpacked(row["keyads"]), certificates, strict=True
    ):
        member = bank.home.charter.member(name, "node")
        opened = open_envelope(keyad, SUM_KEYAD, member.identity_key, name)
        assert KeyAd.parse(opened.body).run == run.run
        assert fingerprint(pem) == member.certificate_fingerprint


def test_rounds_come_in_the_order_of_their_results_and_burns(
    masked: tuple[Bank, PlanRun, Path],
) -> None:
    bank, run, folder = masked
    with reading(bank.home.database) as connection:
        logged = [
            (entry.body["run"], entry.body["round"])
            for entry in bank.home.release_log.of_type(connection, "result", "burn")
        ]
        burned = [found.round for found in store.rounds(connection, run.run) if found.burned]
    found = rows(folder / "rounds.jsonl")
    assert [(row["run"], row["round"]) for row in found] == logged
    assert len(burned) == 1
    key = bank.home.identity.public
    for row in found:
        opened = open_envelope(base64.b64decode(row["query"]), SUM_QUERY, key)
        assert Query.parse(opened.body).round == row["round"]
        asked = open_envelope(base64.b64decode(row["survivors"]), SUM_SURVIVORS, key)
        assert SurvivorSet.parse(asked.body).survivors == tuple(sorted(bank.nodes))
        votes = unpacked(row["votes"])
        assert len(votes) == (0 if row["round"] in burned else 4)
        for vote in votes:
            voter = bank.home.charter.member(json.loads(vote)["signatures"][0]["keyid"], "node")
            assert open_envelope(vote, SUM_VOTE, voter.identity_key).body == asked.body


def test_a_plan_without_masks_has_no_roster_and_no_votes(tmp_path: Path) -> None:
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack)
        run = bank.run(bank.propose())
        run._sum(next(train(FeatureView.parse(run._stored.view))))
        folder = export(bank.home, tmp_path / "export")
    assert rows(folder / "rosters.jsonl") == []
    (row,) = rows(folder / "rounds.jsonl")
    assert (row["round"], row["survivors"], row["votes"]) == (1, "", [])


def test_an_export_into_a_folder_that_cannot_be_written_says_so(
    masked: tuple[Bank, PlanRun, Path], tmp_path: Path
) -> None:
    bank, _, _ = masked
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExportError, match="cannot be written"):
        export(bank.home, tmp_path / "file")
    (tmp_path / BANK / "rounds.jsonl").mkdir(parents=True)
    with pytest.raises(ExportError, match=r"rounds\.jsonl cannot be written"):
        export(bank.home, tmp_path)
