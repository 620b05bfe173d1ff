"""`hejin coordinator propose` says which noise a plan has, why, and what it may cost at most."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from away_mirror import FarMirror, Line
from node_world import BANK, VIEW, World, found_world
from typer.testing import CliRunner

from hejin_coordinator import witnessing
from hejin_coordinator.cli import app
from hejin_coordinator.config import FILE, CoordinatorSettings
from hejin_coordinator.home import CoordinatorHome, open_home
from hejin_models.errors import ViewTakenError
from hejin_trust.database import reading
from hejin_trust.settings import write_settings
from hejin_trust.witness import WitnessUnreachableError


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    world = found_world(folder, nodes=5, size_band=(2000, 3000))
    settings = CoordinatorSettings(
        member=BANK, regulator_key=world.office.identity.public.hex(), regulator="127.0.0.1:1"
    )
    write_settings(folder / BANK / FILE, settings)
    (folder / "firms-v1.toml").write_bytes(VIEW)
    return world


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def world(founded: World, line: Line, monkeypatch: pytest.MonkeyPatch) -> World:
    """Let the bank's commands ask the mirror in this process."""

    @contextmanager
    def dialled(home: CoordinatorHome) -> Iterator[FarMirror]:
        yield FarMirror(founded.mirror.door(home.member_id), home.member_id, line)

    monkeypatch.setattr(witnessing, "dialled", dialled)
    return founded


def propose(world: World, language: str, *more: str, lines: str = "") -> str:
    plan = world.folder / "plan.toml"
    plan.write_text(
        'product = "p"\nview = "firms-v1.toml"\ndefinition = "bad-1"\nepsilon = 2\n' + lines
    )
    result = CliRunner().invoke(
        app,
        ["propose", "--home", str(world.folder / BANK), str(plan), *more],
        env={"HEJIN_LANG": language, "COLUMNS": "300"},
    )
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_plan_of_five_nodes_shares_its_noise_and_says_so(world: World) -> None:
    told = json.loads(propose(world, "en", "--json"))
    assert (told["mode"], told["minimum_nodes"], told["quorum"], told["colluders"]) == (
        "shared", 4, 4, 1,
    )  # fmt: skip
    assert told["epsilon"] == pytest.approx(2, abs=1e-3)
    assert told["grade"] == "core"  # nobody grades the columns of its view
    # One spare round at the price of the hold-out sum.
    assert told["rho_at_most"] == pytest.approx(2 * told["rho"], rel=1e-9)
    assert told["epsilon"] < told["epsilon_at_most"] < 2 * told["epsilon"]


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "en",
            ("shared (5 nodes, 5 or more", "quorum tau, colluders t", "4, 1", "at most", "core"),
        ),
        ("zh", ("shared (5 个节点", "法定数 tau", "4, 1", "至多", "核心")),
    ],
)
def test_the_sizes_are_shown_in_both_languages(
    world: World, language: str, said: tuple[str, ...]
) -> None:
    shown = propose(world, language)
    assert [part for part in said if part not in shown] == []


def test_a_plan_in_mode_node_shows_no_thresholds(world: World) -> None:
    shown = propose(world, "en", lines='mode = "node"\n')
    assert "node (the plan file says so)" in shown
    assert "quorum" not in shown


def test_nothing_is_logged_before_the_mirror_was_asked(world: World, line: Line) -> None:
    """On a restored backup the entry would fork the ledger for good."""
    propose(world, "en")
    with open_home(world.folder / BANK) as home, reading(home.database) as connection:
        before = home.release_log.size(connection)
    line.cut.add(BANK)
    with pytest.raises(WitnessUnreachableError):
        propose(world, "en")
    with open_home(world.folder / BANK) as home, reading(home.database) as connection:
        assert home.release_log.size(connection) == before


def test_a_bank_cannot_offer_other_bytes_under_a_views_name_and_version(world: World) -> None:
    propose(world, "en")
    file = world.folder / "firms-v1.toml"
    file.write_bytes(VIEW + b"# changed\n")
    try:
        with pytest.raises(ViewTakenError, match="a changed view needs a new version"):
            propose(world, "en")
        file.write_bytes(VIEW.replace(b"version = 1", b"version = 2"))
        propose(world, "en")
    finally:
        file.write_bytes(VIEW)
