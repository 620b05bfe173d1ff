"""policy.toml: what it may say, what is refused, and the commands that show, check and write it."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from commands import run
from node_world import SIZE_BAND, World, fill, found_world

from hejin_node.errors import PolicyExistsError, PolicyMissingError
from hejin_node.home import open_home, read_policy
from hejin_node.inbox import going_on
from hejin_node.offers import approve, pledged, receive
from hejin_node.policy_file import FILE, Automatic, BankRules, Policy, starter
from hejin_trust.database import reading
from hejin_trust.settings import SettingsError

RULES = 'purposes = ["model-training"]\ngrade = "general"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / FILE
    path.write_text(f"size_band = [10, 1000]\n{text}", "utf-8")
    return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def home(world: World) -> Path:
    return world.nodes["node-1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("automatic = true\n", "automatic", id="a field it has not"),
        pytest.param('[default]\ngrade = "core"\n', "default.purposes", id="no purposes"),
        pytest.param("[default]\npurposes = []\n", "default.purposes", id="empty purposes"),
        pytest.param('[default]\npurposes = ["model-training"]\n', "default.grade", id="no grade"),
        pytest.param(f"[default]\n{RULES}".replace("general", "public"), "grade", id="grade"),
        pytest.param('[default]\npurposes = ["*"]\n', "default.purposes", id="any purpose"),
        pytest.param(
            '[default]\npurposes = ["model-training", "model-training"]\n', "once", id="twice"
        ),
        pytest.param(f'[default]\n{RULES}families = ["forest"]\n', "scorecard", id="family"),
        pytest.param(f'[default]\n{RULES}statistics = ["gram", "raw"]\n', "name 2", id="statistic"),
        pytest.param(f'[default]\n{RULES}statistics = ["*", "gram"]\n', "alone", id="all and one"),
        pytest.param(f'[default]\n{RULES}views = ["trade"]\n', "default.views", id="no version"),
        pytest.param(f'[banks."Bank 1"]\n{RULES}', "banks", id="no member name"),
        pytest.param(
            f"[default]\n{RULES}[default.automatic]\n", "epsilon_at_most", id="no limit named"
        ),
        pytest.param(
            f"[default]\n{RULES}[default.automatic]\nepsilon_at_most = nan\n", "finite", id="nan"
        ),
        pytest.param(
            f"[default]\n{RULES}[default.automatic]\nepsilon_at_most = 1\nshare_at_most = 1.5\n",
            "share_at_most",
            id="more than all",
        ),
        pytest.param("size_band = [9, 10]\n", "TOML", id="a key twice"),
    ],
)
def test_what_a_policy_cannot_say_is_refused_by_its_field(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        read_policy(written(tmp_path, text))
    assert said in refused.value.text.en
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("band", ["[0, 10]", "[11, 10]", "[1, 1000000000]", "[1]", '["a", 2]'])
def test_a_size_band_is_two_whole_numbers_in_order(tmp_path: Path, band: str) -> None:
    (tmp_path / FILE).write_text(f"size_band = {band}\n")
    with pytest.raises(SettingsError, match="size_band"):
        read_policy(tmp_path / FILE)


def test_without_a_policy_nothing_is_approved_and_the_error_says_how_to_get_one(
    world: World, home: Path
) -> None:
    (home / FILE).unlink()
    envelope, digest, _ = world.propose()
    with open_home(home, world.clock) as node:
        receive(node, envelope)
        with pytest.raises(PolicyMissingError, match="hejin node policy init"):
            approve(node, digest, "test")


def test_the_starter_lets_any_bank_ask_and_the_operator_decide() -> None:
    policy = Policy.model_validate(tomllib.loads(starter((10, 20)).decode()))
    rules = policy.rules("bank-7")
    assert policy.size_band == (10, 20)
    assert rules is not None
    assert rules.automatic is None
    limited = Policy.model_validate(tomllib.loads(starter((10, 20), 1 / 3).decode()))
    assert limited.rules("bank-7") == rules.model_copy(
        update={"automatic": Automatic(epsilon_at_most=1 / 3)}
    )


@pytest.mark.parametrize("cost", ["0", "-1", "nan", "inf"])
def test_no_policy_is_written_that_could_not_be_read(home: Path, cost: str) -> None:
    (home / FILE).unlink()
    with pytest.raises(SettingsError, match="above 0"):
        run(home, "policy", "init", "--approve-up-to", cost)
    assert not (home / FILE).exists()


def test_the_lines_that_the_starter_comments_out_are_a_policy_too() -> None:
    text = "".join(
        line.removeprefix("# ")
        if line.startswith(("# [", "# p", "# e", "# s", "# c", "# g"))
        else line
        for line in starter((10, 20)).decode().splitlines(keepends=True)
    )
    policy = Policy.model_validate(tomllib.loads(text))
    assert policy.default is not None
    assert policy.default.automatic == Automatic(epsilon_at_most=0.5, share_at_most=0.5)
    assert list(policy.banks) == ["bank-1"]


def test_a_policy_is_read_anew_at_each_decision(world: World, home: Path) -> None:
    with open_home(home, world.clock) as node:
        assert node.policy().rules("bank-1") is not None
        written(home, f"[banks.bank-2]\n{RULES}")
        assert node.policy().rules("bank-1") is None


def test_what_a_bank_may_yet_spend_counts_and_what_it_spent_not_twice(
    world: World, home: Path
) -> None:
    with open_home(home, world.clock) as node:
        fill(node, world, 20)
        envelope, digest, plan = world.propose()
        receive(node, envelope)
        with reading(node.database) as connection:
            period, now = world.office.charter.period_from, world.clock()
            assert pledged(connection, "bank-1", period, now) == 0
        approve(node, digest, "test")
        with reading(node.database) as connection:
            assert [found for found, _ in going_on(connection, "bank-1")] == [digest]
            assert pledged(connection, "bank-1", period, now) == plan.rho
            assert pledged(connection, "bank-2", period, now) == 0
            assert pledged(connection, "bank-1", period, plan.expires) == 0


def test_the_policy_is_shown_in_both_languages_and_as_json(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    written(
        home,
        f"[default]\n{RULES}[banks.bank-1]\n{RULES}[banks.bank-1.automatic]\n"
        "epsilon_at_most = 0.5\nshare_at_most = 0.25\n",
    )
    shown = run(home, "policy", "show").stdout
    assert "epsilon <= 0.5, 25% of the cap, t >= 1" in shown
    assert "any other" in shown
    monkeypatch.setenv("HEJIN_LANG", "zh")
    shown = run(home, "policy", "show").stdout
    assert "不自动批准" in shown
    assert "规模区间 10:1000" in shown
    body = json.loads(run(home, "policy", "show", "--json").stdout)
    assert body["size_band"] == list(SIZE_BAND)
    assert body["banks"]["bank-1"]["automatic"]["share_at_most"] == 0.25


def test_check_compares_the_policy_or_another_file_with_the_charter(
    home: Path, tmp_path: Path
) -> None:
    assert run(home, "policy", "check").exit_code == 0
    other = tmp_path / "other.toml"
    other.write_bytes(starter((10, 999)))
    found = run(home, "policy", "check", str(other), "--json")
    assert found.exit_code == 1
    assert [problem["code"] for problem in json.loads(found.stdout)["problems"]] == [
        "policy-size-band"
    ]
    assert "policy-size-band" in run(home, "policy", "check", str(other)).stdout


def test_check_names_banks_that_the_charter_does_not_know(home: Path) -> None:
    written(home, f"[banks.bank-9]\n{RULES}")
    found = json.loads(run(home, "policy", "check", "--json").stdout)
    assert [problem["code"] for problem in found["problems"]] == ["policy-unknown-bank"]


def test_init_writes_a_policy_where_there_is_none_and_never_over_one(home: Path) -> None:
    with pytest.raises(PolicyExistsError, match="is there already"):
        run(home, "policy", "init")
    (home / FILE).unlink()
    run(home, "policy", "init", "--approve-up-to", "0.25")
    assert (home / FILE).read_bytes() == starter(SIZE_BAND, 0.25)
    assert (home / FILE).stat().st_mode & 0o777 == 0o600
    assert run(home, "policy", "check").exit_code == 0


def test_the_policy_of_the_page_is_a_policy_and_shows_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text("utf-8")
    shown = tomllib.loads(re.search(r"^```toml\n(.*?)^```", page, re.M | re.S)[1])  # type: ignore[index]
    policy = Policy.model_validate(shown)
    assert set(shown) == set(Policy.model_fields)
    assert set(shown["default"]) == set(BankRules.model_fields)
    assert set(shown["default"]["automatic"]) == set(Automatic.model_fields)
    assert policy.rules("bank-1") != policy.rules("bank-2")


def test_what_a_bank_writes_is_shown_as_it_stands(
    world: World, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Square brackets are markup to the terminal's library: a plan may not dress itself up."""
    monkeypatch.setenv("COLUMNS", "200")
    view = replace(world.propose()[2].view, name="[/red]")
    envelope, digest, _ = world.propose(product="[green]safe[/green]", view=view)
    with open_home(home, world.clock) as node:
        receive(node, envelope)
    written(home, f'[default]\n{RULES}views = ["trade-v1"]\n')
    assert "[green]safe[/green]" in run(home, "plan", "list").stdout
    shown = run(home, "plan", "show", digest).stdout
    assert "[green]safe[/green]" in shown
    assert "policy-view the policy does not allow bank-1 the feature view [/red]-v1" in shown
    monkeypatch.setenv("HEJIN_LANG", "zh")
    assert "待答复" in run(home, "plan", "list").stdout
    assert "由运营方决定" not in shown
