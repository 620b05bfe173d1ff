"""`hejin ledger`: what it shows, proofs that third parties can check, archives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from node_world import BANK, World, approved, fill, found_world

from hejin_coordinator.config import FILE as BANK_FILE
from hejin_coordinator.config import CoordinatorSettings
from hejin_coordinator.home import open_home as open_bank
from hejin_node.export import export as export_node
from hejin_node.home import open_home as open_node
from hejin_node.session import Session
from hejin_sandbox.main import hejin
from hejin_trust.archived import ArchiveError, ArchiveMissingError
from hejin_trust.canonical import time_text
from hejin_trust.checkpoint import CheckpointError, parse_proof
from hejin_trust.clock import now
from hejin_trust.cosignature import cosign, open_cosigned, witness_name
from hejin_trust.database import reading, writing
from hejin_trust.entries import EntryError, parse
from hejin_trust.errors import HejinError
from hejin_trust.keys import SigningKey
from hejin_trust.ledger import LedgerError
from hejin_trust.merkle import ProofError
from hejin_trust.settings import write_settings

RUN = "ab" * 16


def run(*arguments: object, lang: str = "en") -> Result:
    result = CliRunner(env={"HEJIN_LANG": lang, "COLUMNS": "200"}).invoke(
        hejin, ["ledger", *(str(argument) for argument in arguments)]
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def said(*arguments: object, lang: str = "en") -> str:
    result = run(*arguments, lang=lang)
    assert result.exit_code == 0, result.output
    return result.stdout


@dataclass
class Place:
    """A consortium whose node has carried out a run, all cosigned, and then went on a little."""

    world: World
    node: Path
    bank: Path
    leaves: list[bytes]

    @property
    def key(self) -> str:
        return self.world.office.identity.public.hex()

    @property
    def charter(self) -> Path:
        return self.node / "charter.json"

    def begin_period(self) -> None:
        """Let the regulator begin a new budget period, so that the old one is over."""
        old = self.world.office.charter
        end = self.world.clock() + timedelta(days=400)
        new = replace(
            old,
            serial=old.serial + 1,
            period_from=old.period_to,
            period_to=time_text(end + timedelta(days=365)),
        )
        with open_node(self.node, self.world.clock) as home:
            home.charters.update(new.seal(self.world.office.identity))


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make(tmp_path_factory.mktemp("ledger"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make(tmp_path)


def make(folder: Path) -> Place:
    world = found_world(folder)
    node, bank = world.nodes["node-1"], folder / BANK
    key = world.office.identity.public.hex()
    write_settings(bank / BANK_FILE, CoordinatorSettings(member=BANK, regulator_key=key))
    with open_bank(bank, world.clock) as opened:
        world.witness(opened).refresh()
    with open_node(node, world.clock) as home:
        fill(home, world)
        plan, digest = approved(home, world)
        witness = world.witness(home)
        session = Session(home, BANK, witness, world.receipts(home))
        first = session.answer(world.query(plan, digest, run=RUN))
        result, named = world.result(first)
        second = session.answer(
            world.query(plan, digest, run=RUN, number=2, index=1, previous=named, result=result)
        )
        session.answer({"kind": b"result", "result": world.result(second)[0]})
        witness.refresh()
        with writing(home.database) as connection:
            note = {"reservation": 3, "reason": "\x1b[31mred [bold]x"}
            home.release_log.append(connection, "void", note)
            leaves = list(home.release_log.entries(connection))
    return Place(world, node, bank, leaves)


# -- show --------------------------------------------------------------------------------------


def test_the_newest_entries_are_a_table_in_both_languages(founded: Place) -> None:
    table = said("show", "--home", founded.node)
    assert "the cost of a sum is charged" in table
    assert f"run {RUN[:8]} round 1 of {BANK}: label_histogram (train), rho 0.05 charged" in table
    assert "预留：扣减一次求和的费用" in said("show", "--home", founded.node, lang="zh")
    assert said("show", "--home", founded.bank).count("a log begins") == 1
    internal = said("show", "--home", founded.node, "--log", "internal", "--type", "account")
    assert internal.count("account before and after a reservation") == 2


def test_what_a_peer_wrote_cannot_steer_the_terminal(founded: Place) -> None:
    last = len(founded.leaves) - 1
    for text in (said("show", "--home", founded.node), said("show", "--home", founded.node, last)):
        assert "\x1b" not in text
        assert "�[31mred [bold]x" in text or "u001b[31mred [bold]x" in text


def test_entries_as_json_are_the_leaves_themselves(founded: Place) -> None:
    def lines(*arguments: object) -> list[bytes]:
        return said("show", "--home", founded.node, "--json", *arguments).encode().splitlines()

    assert lines("--from", 0, "--last", 1000) == founded.leaves
    assert lines("--from", 3) == founded.leaves[3:]
    assert lines("--last", 2) == founded.leaves[-2:]
    assert lines("--from", 2, "--last", 3) == founded.leaves[-3:]
    assert [parse(line).type for line in lines("--type", "reserve")] == ["reserve"] * 2
    assert lines("4") == founded.leaves[4:5]


def test_one_entry_is_shown_in_full(founded: Place) -> None:
    text = said("show", "--home", founded.node, 3)
    assert "the cost of a sum is charged" in text
    assert '"delta_squared"' in text


def test_an_entry_that_is_not_there_is_refused(founded: Place) -> None:
    last = len(founded.leaves) - 1
    with pytest.raises(LedgerError, match=f"the entries 0 to {last}, there is no entry 999"):
        run("show", "--home", founded.node, 999)
    with pytest.raises(LedgerError, match="no entry 999"):
        run("prove", "--home", founded.node, 999)
    assert run("show", "--home", founded.node, "--type", "reverse").exit_code == 2


def test_a_folder_without_a_ledger_is_refused(founded: Place, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="folder of no node or bank"):
        run("show", "--home", founded.world.folder / "regulator")
    (tmp_path / "node.toml").write_bytes((founded.node / "node.toml").read_bytes())
    with pytest.raises(HejinError, match="charter"):
        run("show", "--home", tmp_path)
    (tmp_path / "charter.json").write_bytes(founded.charter.read_bytes())
    with pytest.raises(HejinError, match="There is no database"):
        run("show", "--home", tmp_path)


def test_looking_starts_and_changes_nothing(founded: Place) -> None:
    with open_node(founded.node, founded.world.clock) as home, reading(home.database) as connection:
        before = home.release_log.size(connection)
    said("show", "--home", founded.node)
    run("prove", "--home", founded.node, 3)
    with open_node(founded.node, founded.world.clock) as home, reading(home.database) as connection:
        assert home.release_log.size(connection) == before


def test_a_ledger_is_read_with_the_base_install_alone(founded: Place) -> None:
    script = (
        "import sys; from hejin_sandbox.main import hejin;"
        f"hejin.main(['ledger', 'show', '--home', {str(founded.node)!r}], standalone_mode=False);"
        "extra = {'flwr', 'torch', 'duckdb', 'pyarrow', 'opendp', 'opacus'};"
        "assert not extra & set(sys.modules), extra & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr


# -- prove and check -----------------------------------------------------------------------------


def proven(place: Place, folder: Path, seq: int = 3) -> Path:
    file = folder / "entry.tlog-proof"
    result = run("prove", "--home", place.node, seq, "--out", file)
    assert "the regulator has cosigned" in result.stderr
    return file


def test_a_proof_is_checked_with_the_charter_alone(founded: Place, tmp_path: Path) -> None:
    file = proven(founded, tmp_path)
    terms = ("--charter", founded.charter, "--regulator-key", founded.key)
    text = said("check", file, *terms)
    assert "this entry is in the ledger of node-1" in text
    assert "the cost of a sum is charged" in text
    facts = json.loads(said("check", file, *terms, "--json"))
    assert facts["entry"] == json.loads(founded.leaves[3])
    assert facts["origin"] == "hejin/test/node/node-1"
    assert facts["log_key"].startswith("hejin/test/node/node-1+")
    assert facts["witness_key"].startswith("hejin/test/regulator/regulator+")
    # A member has both in its folder.
    assert said("check", file, "--home", founded.bank) == said("check", file, *terms)
    assert "该条目确在以下成员的账本中" in said("check", file, *terms, lang="zh")


def test_a_proof_can_be_printed(founded: Place) -> None:
    parsed = parse_proof(said("prove", "--home", founded.node, 0))
    assert (parsed.index, parsed.extra) == (0, founded.leaves[0])


def test_the_banks_and_the_internal_ledger_prove_too(founded: Place, tmp_path: Path) -> None:
    for number, place in enumerate([(founded.bank, "release"), (founded.node, "internal")]):
        file = tmp_path / f"{number}.tlog-proof"
        run("prove", "--home", place[0], 0, "--log", place[1], "--out", file)
        assert "a log begins" in said("check", file, "--home", founded.node)


@pytest.mark.parametrize(
    ("altered", "error"),
    [
        pytest.param(lambda t: t.replace("index 3", "index 4"), ProofError, id="index"),
        pytest.param(lambda t: t.replace("\nextra ", "\nextra AAAA"), EntryError, id="entry"),
        pytest.param(lambda t: "\n".join(t.split("\n")[:1] + t.split("\n")[2:]), EntryError,
                     id="no-entry"),
        pytest.param(lambda t: t.rpartition("—")[0], CheckpointError, id="not-cosigned"),
        pytest.param(lambda t: t.replace("node/node-1\n", "node/node-2\n"), CheckpointError,
                     id="another-log"),
        pytest.param(lambda t: t[:-20], CheckpointError, id="cut-off"),
    ],
)  # fmt: skip
def test_an_altered_proof_is_refused(
    founded: Place, tmp_path: Path, altered: object, error: type[HejinError]
) -> None:
    file = proven(founded, tmp_path)
    assert callable(altered)
    file.write_text(altered(file.read_text()))
    with pytest.raises(error):
        run("check", file, "--home", founded.node)


def test_an_entry_of_another_member_in_a_log_is_refused(place: Place, tmp_path: Path) -> None:
    with open_node(place.node, place.world.clock) as home:
        home.release_log.by = "node-2"
        with writing(home.database) as connection:
            seq = home.release_log.append(connection, "void", {"reservation": 3, "reason": "x"}).seq
            home.release_log.checkpoint(connection)
            note = home.release_log.checkpoint(connection)
    # The mirror would refuse it; a regulator that let it pass would still not help the forger.
    name = witness_name("test", "regulator")
    log_key = SigningKey.load(place.world.office.home / "keys" / "log.key")
    note += cosign(note, name, log_key, now())
    with open_node(place.node, place.world.clock) as home, writing(home.database) as connection:
        log = home.release_log
        cosigned = open_cosigned(note, log.origin, log.public_key, name, log_key.public)
        log.keep_cosigned(connection, cosigned)
    file = proven(place, tmp_path, seq)
    with pytest.raises(LedgerError, match="names another place or member"):
        run("check", file, "--home", place.node)


def test_another_regulators_key_is_refused(founded: Place, tmp_path: Path) -> None:
    file = proven(founded, tmp_path)
    with pytest.raises(HejinError):
        run("check", file, "--charter", founded.charter, "--regulator-key", "11" * 32)
    for half in (("--charter", founded.charter), ("--regulator-key", founded.key), ()):
        assert run("check", file, *half).exit_code == 2


def test_what_the_regulator_has_not_cosigned_is_proven_but_not_accepted(
    place: Place, tmp_path: Path
) -> None:
    last, file = len(place.leaves) - 1, tmp_path / "entry.tlog-proof"
    with pytest.raises(LedgerError, match="under no checkpoint yet"):
        run("prove", "--home", place.node, last)
    with open_node(place.node, place.world.clock) as home, writing(home.database) as connection:
        home.release_log.checkpoint(connection)
    result = run("prove", "--home", place.node, last, "--out", file)
    assert "has not cosigned it yet" in result.stderr
    with pytest.raises(CheckpointError, match="0 cosignatures"):
        run("check", file, "--home", place.node)


# -- sealed parts and archives -------------------------------------------------------------------


def test_a_part_of_a_ledger_is_sealed_and_checked(founded: Place, tmp_path: Path) -> None:
    whole = said("export", "--home", founded.node, tmp_path / "all").split()
    assert [Path(path).name.split(".")[1] for path in whole] == ["release", "internal"]
    (some,) = said(
        "export", "--home", founded.node, tmp_path, "--log", "release", "--from", 3, "--to", 6
    ).split()
    assert Path(some).read_bytes() == b"".join(leaf + b"\n" for leaf in founded.leaves[3:6])
    for path in (*whole, some, some.replace(".jsonl", ".seal")):
        text = said("check", path, "--charter", founded.charter, "--regulator-key", founded.key)
        assert "these entries are, whole, in the ledger of node-1" in text
    facts = json.loads(said("check", some, "--home", founded.bank, "--json"))
    assert (facts["start"], facts["end"]) == (3, 6)
    data = Path(some).read_bytes()
    Path(some).write_bytes(data.replace(b'"round":1', b'"round":7'))
    with pytest.raises(ArchiveError, match="not the file that was sealed"):
        run("check", some, "--home", founded.node)


def test_a_part_beyond_what_is_cosigned_is_not_sealed(founded: Place, tmp_path: Path) -> None:
    cosigned = len(founded.leaves) - 1
    with pytest.raises(LedgerError, match=f"has cosigned {cosigned} entries"):
        run("export", "--home", founded.node, tmp_path, "--log", "release", "--to", cosigned + 1)
    with pytest.raises(LedgerError, match="a part lies within"):
        run("export", "--home", founded.node, tmp_path, "--log", "release", "--from", cosigned)
    assert run("export", "--home", founded.node, tmp_path, "--from", 3).exit_code == 2


def test_a_closed_period_is_archived_and_everything_goes_on(place: Place, tmp_path: Path) -> None:
    node, tape = place.node, tmp_path / "tape"

    def exported(folder: str) -> bytes:
        with open_node(node, place.world.clock) as home:
            return (export_node(home, tmp_path / folder) / "release.jsonl").read_bytes()

    before = exported("before")
    running = said("archive", "--home", node, "--to", tape)
    assert running.count("nothing to archive: the budget period since") == 2
    assert not tape.exists()
    place.begin_period()
    early = said("archive", "--home", node, "--to", tape, "--before", "2020-01-01")
    assert early.count("later entries are of 2020-01-01T00:00:00Z or after") == 2
    assert run("archive", "--home", node, "--to", tape, "--before", "yesterday").exit_code == 2
    size = (node / "node.db").stat().st_size
    done = said("archive", "--home", node, "--to", tape, "--keep", 4)
    assert f"release: entries 0 to {len(place.leaves) - 5} are in {tape}" in done
    assert (node / "node.db").stat().st_size < size
    kept = len(place.leaves) - 4
    part = tape / f"node-1.release.0-{kept - 1}.jsonl"
    assert said("check", part, "--home", place.bank)
    listed = [json.loads(line) for line in said("archives", "--home", node, "--json").splitlines()]
    assert [(one["log"], one["start"], one["there"]) for one in listed] == [
        ("release", 0, True), ("internal", 0, True),
    ]  # fmt: skip
    assert "in an archive" in said("show", "--home", node)
    assert "已归档" in said("show", "--home", node, lang="zh")
    assert said("show", "--home", node, 3, "--json").encode().rstrip() == place.leaves[3]
    rows = said("show", "--home", node, "--from", 0, "--last", 99, "--json").splitlines()
    assert json.loads(rows[3]) | {"time": ""} == {
        "seq": 3, "type": "reserve", "time": "", "archived": True,
    }  # fmt: skip
    assert said("check", proven(place, tmp_path), "--home", place.bank)
    assert exported("after") == before
    with open_node(node, place.world.clock) as home:
        home.verify_logs()
        place.world.witness(home).refresh()


def test_archives_that_are_away_are_named_and_found_again(place: Place, tmp_path: Path) -> None:
    node = place.node
    place.begin_period()
    said("archive", "--home", node, "--to", tmp_path / "tape", "--log", "release")
    (tmp_path / "tape").rename(tmp_path / "vault")
    assert "MISSING" in said("archives", "--home", node)
    with pytest.raises(ArchiveMissingError, match=r"are in the archive .*tape.*put it back there"):
        run("show", "--home", node, 3)
    with (
        open_node(node, place.world.clock) as home,
        pytest.raises(ArchiveMissingError, match="tape"),
    ):
        export_node(home, tmp_path / "export")
    assert "MISSING" not in said("archives", "--home", node, "--moved-to", tmp_path / "vault")
    assert said("show", "--home", node, 3)


def test_a_node_restored_from_before_an_archive_needs_no_archive(
    place: Place, tmp_path: Path
) -> None:
    backup = (place.node / "node.db").read_bytes()
    place.begin_period()
    said("archive", "--home", place.node, "--to", tmp_path / "tape")
    for beside in place.node.glob("node.db*"):
        beside.unlink()
    (place.node / "node.db").write_bytes(backup)
    (tmp_path / "tape").rename(tmp_path / "away")
    with open_node(place.node, place.world.clock) as home:
        home.verify_logs()
        place.world.witness(home).start()
        with reading(home.database) as connection:
            assert list(home.release_log.entries(connection)) == place.leaves
    again = said("archive", "--home", place.node, "--to", tmp_path / "tape")
    assert "release: entries 0 to" in again


def test_a_mirror_that_lost_everything_gets_archived_entries_too(
    place: Place, tmp_path: Path
) -> None:
    place.begin_period()
    said("archive", "--home", place.node, "--to", tmp_path / "tape")
    place.world._open.close()
    del place.world.mirror
    for file in (place.world.folder / "regulator").glob("mirror.db*"):
        file.unlink()
    (tmp_path / "tape").rename(tmp_path / "away")
    with open_node(place.node, place.world.clock) as home:
        with pytest.raises(ArchiveMissingError, match="put it back there"):
            place.world.witness(home)
        (tmp_path / "away").rename(tmp_path / "tape")
        place.world.witness(home)
        member = home.membership.me
        assert place.world.mirror.entries(member, home.release_log.origin, 0) == tuple(place.leaves)
