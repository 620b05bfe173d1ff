"""A consortium in one process: the same ledgers, charges and refusals as over the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bank_world import export_all

from hejin_coordinator.errors import RoundFailedError
from hejin_coordinator.registry import find
from hejin_models.features import FeatureView, view_file
from hejin_models.network_model import Network
from hejin_node import account
from hejin_regulator.authority import Office
from hejin_regulator.findings import Verification
from hejin_regulator.verify import verify_export
from hejin_sandbox.generator import AS_OF, CLUSTERS, generate
from hejin_sandbox.inputs import from_cluster
from hejin_sandbox.memory import (
    MemoryConsortium,
    MemoryTransport,
    found_homes,
    memory_consortium,
    open_consortium,
)
from hejin_sandbox.tables import REGULATOR
from hejin_trust.database import reading

NODES, FIRMS = 2, 300


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[MemoryConsortium]:
    nodes = [
        from_cluster(generate(cluster, FIRMS, 1), first_code=place * FIRMS)
        for place, cluster in enumerate(CLUSTERS[:NODES])
    ]
    with memory_consortium(tmp_path, nodes, view_file("trade-v1"), epsilon_cap=20.0) as found:
        yield found


def test_it_trains_a_registered_model_and_every_sum_is_charged(
    consortium: MemoryConsortium,
) -> None:
    told: list[tuple[int, int, str]] = []
    plan = consortium.propose(19.0, AS_OF.astype(object))
    trained = consortium.train(plan, lambda *said: told.append(said))
    assert trained.model.plan == plan
    assert [index for index, _, _ in told] == list(range(told[0][1]))
    view = FeatureView.parse(view_file("trade-v1"))
    assert len(trained.result.model.features) == len(view.features)
    for home in consortium.nodes.values():
        with reading(home.database) as connection:
            home.release_log.verify(connection)
            home.internal_log.verify(connection)
            spent = account.spent(connection, home.charter.period_from)
            released = list(home.release_log.of_type(connection, "release"))
            receipts = list(home.release_log.of_type(connection, "receipt"))
        assert 0 < spent <= home.charter.rho_cap
        assert len(released) == len(receipts) == len(told)


def verified(consortium: MemoryConsortium, folder: Path) -> Verification:
    """Return what the regulator finds in an export of everybody's ledgers."""
    office = Office(consortium.bank.path.parent / REGULATOR)
    export_all(folder, office, consortium.mirror, consortium.bank, consortium.nodes.values())
    return verify_export(folder)


def test_it_trains_a_network_that_verifies_and_can_be_found_again(
    tmp_path: Path, consortium: MemoryConsortium
) -> None:
    plan = consortium.propose(19.0, AS_OF.astype(object), family="network")
    trained = consortium.train(plan)
    found = find(consortium.bank, trained.model.id)
    assert found.id.startswith("network-")
    assert isinstance(found.trained, Network)
    assert found.trained == trained.result.model
    assert "## Network" in found.card()
    for home in consortium.nodes.values():
        with reading(home.database) as connection:
            released = list(home.release_log.of_type(connection, "release"))
            spent = account.spent(connection, home.charter.period_from)
        assert len(released) == 32
        assert 0 < spent <= home.charter.rho_cap
    assert verified(consortium, tmp_path / "export").findings == ()


def test_a_node_without_any_view_of_the_plan_refuses_and_the_round_fails(
    tmp_path: Path, consortium: MemoryConsortium
) -> None:
    plan = consortium.propose(19.0, AS_OF.astype(object))
    for home in consortium.nodes.values():
        for view in home.views_folder.iterdir():
            view.unlink()
        home._views.clear()
    with pytest.raises(RoundFailedError, match="0 of 2 nodes answered"):
        consortium.train(plan)


def test_nodes_whose_turn_comes_after_the_time_are_not_asked(tmp_path: Path) -> None:
    found_homes(tmp_path, {"node-1": 500}, view_file("trade-v1"), epsilon_cap=1.0)
    with open_consortium(tmp_path, ["node-1"]) as consortium:
        transport = MemoryTransport(consortium.sessions)
        asked = {"node-1": {"kind": b"nonsense"}}
        answers = list(transport.ask(asked, timeout=10.0, reissue_after=1.0))
        assert [(node, answer["kind"]) for node, answer in answers] == [("node-1", b"refusal")]
        assert list(transport.ask(asked, timeout=0.0, reissue_after=1.0)) == []
