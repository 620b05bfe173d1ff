"""`hejin node preflight`, `export` and `recover`, against a regulator that really serves."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from bent_mirror import copy_database, internal_log, put_database, release_log
from node_world import VIEW, World, approved, fill, found_world
from typer.testing import CliRunner
from witnessed_node import RUN, opened

from hejin_node import config
from hejin_node import export as node_export
from hejin_node.config import NodeSettings
from hejin_node.home import open_home
from hejin_node.recovery import FOLDER
from hejin_regulator import service
from hejin_regulator.mirror import open_mirror
from hejin_sandbox.main import main
from hejin_trust.clock import now
from hejin_trust.database import reading, writing
from hejin_trust.export import MemberExport
from hejin_trust.files import held
from hejin_trust.settings import read_settings, write_settings

MEMBER = ["certificate", "ledgers", "regulator", "clock"]
NODE = ["keys", "disk", "budget", "policy", "banks", "view:firms-v1"]
"""This node has neither a bank nor data yet: see test_preflight.py."""


@dataclass
class Site:
    """A consortium on this machine; the regulator serves while `served` lasts."""

    world: World
    told: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    @property
    def node(self) -> Path:
        return self.world.nodes["node-1"]

    def hejin(self, *arguments: object) -> tuple[int, str, str]:
        """Run the command as typed; return (exit code, stdout, stderr)."""
        self.monkeypatch.setattr(sys, "argv", ["hejin", *map(str, arguments)])
        self.told.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self.told.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    def speak(self, language: str) -> None:
        self.monkeypatch.setenv("HEJIN_LANG", language)

    def point_to(self, address: str | None) -> None:
        file = self.node / config.FILE
        settings = read_settings(file, NodeSettings)
        write_settings(file, settings.model_copy(update={"regulator": address}))

    @contextmanager
    def served(self) -> Iterator[str]:
        """Let the regulator serve, and the node know where; give the address."""
        stop, ready = threading.Event(), threading.Event()
        ports: list[int] = []

        def listening(port: int) -> None:
            ports.append(port)
            ready.set()

        home = self.world.office.home
        thread = threading.Thread(target=service.serve, args=(home, "127.0.0.1:0", listening, stop))
        thread.start()
        try:
            assert ready.wait(30)
            address = f"127.0.0.1:{ports[0]}"
            self.point_to(address)
            yield address
        finally:
            stop.set()
            thread.join()

    def restored(self, folder: Path) -> None:
        """Let the node work on after a backup, and put the backup in the place of its database."""
        with opened(self.world) as node:
            fill(node.home, self.world, 20)
            plan, digest = approved(node.home, self.world)
            node.witness.refresh()
        copy = copy_database(self.node, folder / "backup.db")
        with opened(self.world) as node:
            query = self.world.query(plan, digest, run=RUN)
            assert node.ask(query) == "masked"
            node.witness.refresh()
        put_database(copy, self.node)

    def approve(self, folder: Path) -> Path:
        out = folder / "approval.json"
        code, _, err = self.hejin(
            "regulator", "approve-recovery", "node-1", "--home", self.world.office.home,
            "--reason", "its disk failed", "--out", out,
        )  # fmt: skip
        assert code == 0, err
        return out


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the regulator's log, in a thread here, out of what the commands say."""
    monkeypatch.setattr("hejin_trust.logs.log_to_stderr", lambda: None)
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.configure(**before)


@pytest.fixture
def site(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    quiet: None,
) -> Site:
    monkeypatch.setenv("HEJIN_LANG", "en")
    monkeypatch.setenv("COLUMNS", "220")
    world = found_world(tmp_path)
    world.clock.moment = now()
    return Site(world, capsys, monkeypatch)


# -- preflight ----------------------------------------------------------------------------


def test_preflight_shows_what_is_well_and_what_is_not_in_both_languages_and_as_json(
    site: Site,
) -> None:
    with site.served():
        code, out, _ = site.hejin("node", "preflight", "--home", site.node, "--json")
        told = json.loads(out)
        assert (code, told["ok"]) == (1, False)
        assert [look["name"] for look in told["looks"]] == MEMBER + NODE
        wrong = {look["name"]: look["code"] for look in told["looks"] if not look["ok"]}
        assert wrong == {"banks": "no-bank", "view:firms-v1": "data-missing"}
        assert all(look["en"] and look["zh"] for look in told["looks"])
        code, out, _ = site.hejin("node", "preflight", "--home", site.node)
        assert (out.count("✓"), out.count("✗")) == (8, 2)
        assert "at most 110 s are allowed" in out
        site.speak("zh")
        code, out, _ = site.hejin("node", "preflight", "--home", site.node)
        assert (out.count("✓"), out.count("✗")) == (8, 2)
        for word in ("证书", "本地账本", "监管方镜像", "时钟", "最多允许 110 秒"):
            assert word in out


def test_preflight_without_its_regulator_says_so_and_ends_with_one(site: Site) -> None:
    with site.served():
        pass
    code, out, _ = site.hejin("node", "preflight", "--home", site.node, "--json")
    told = json.loads(out)
    assert (code, told["ok"]) == (1, False)
    assert [(look["name"], look["code"]) for look in told["looks"]][:4] == [
        ("certificate", ""), ("ledgers", ""), ("regulator", "witness-unreachable"), ("keys", ""),
    ]  # fmt: skip
    code, out, _ = site.hejin("node", "preflight", "--home", site.node)
    assert code == 1
    assert out.count("✗") == 3
    assert "the regulator does not answer" in out
    site.speak("zh")
    _, out, _ = site.hejin("node", "preflight", "--home", site.node)
    assert "监管方没有应答" in out


@pytest.mark.parametrize("command", ["preflight", "serve"])
def test_a_node_that_knows_no_regulator_is_told_how_to_name_it(site: Site, command: str) -> None:
    site.point_to(None)
    code, _, err = site.hejin("node", command, "--home", site.node)
    assert code == 1
    assert "--regulator HOST:PORT" in err
    site.speak("zh")
    code, _, err = site.hejin("node", command, "--home", site.node)
    assert code == 1
    assert "尚未设置监管方地址" in err


def test_preflight_shows_a_clock_that_is_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        service,
        "open_mirror",
        lambda office, **named: open_mirror(office, lambda: now() + timedelta(hours=1), **named),
    )
    with site.served():
        code, out, _ = site.hejin("node", "preflight", "--home", site.node, "--json")
        (clock,) = [look for look in json.loads(out)["looks"] if look["name"] == "clock"]
        assert (code, clock["code"]) == (1, "clock-off")
        assert "s behind the regulator's" in clock["en"]
        assert "落后" in clock["zh"]


def test_preflight_of_a_restored_node_shows_that_it_is_frozen(site: Site, tmp_path: Path) -> None:
    site.restored(tmp_path)
    with site.served():
        code, out, _ = site.hejin("node", "preflight", "--home", site.node, "--json")
        assert code == 1
        assert "frozen" in {look["code"] for look in json.loads(out)["looks"]}


# -- export -------------------------------------------------------------------------------


def test_export_mirrors_what_is_new_and_writes_both_ledgers(site: Site, tmp_path: Path) -> None:
    with open_home(site.node) as home, writing(home.database) as connection:
        home.release_log.append(connection, "void", {"reservation": 0, "reason": "test"})
    with site.served():
        code, out, err = site.hejin("node", "export", "--home", site.node, tmp_path / "out")
    assert (code, err) == (0, "")
    assert out.strip() == str(tmp_path / "out" / "node-1")
    written = MemberExport(tmp_path / "out" / "node-1")
    with open_home(site.node) as home:
        assert list(written.leaves("release")) == [e.raw for e in release_log(home)]
        assert list(written.leaves("internal")) == [e.raw for e in internal_log(home)]
        with reading(home.database) as connection:
            assert written.checkpoint("release") == home.release_log.note(connection, 2)
    assert [log.size for log in site.world.mirror.door("node-1").standing()] == [2, 1]


def test_export_without_the_regulator_writes_all_the_same_and_says_what_is_missing(
    site: Site, tmp_path: Path
) -> None:
    with site.served():
        pass
    code, _, err = site.hejin("node", "export", "--home", site.node, tmp_path / "out")
    assert code == 0
    assert "not witnessed yet" in err
    assert (tmp_path / "out" / "node-1" / "release.jsonl").exists()
    site.speak("zh")
    code, _, err = site.hejin("node", "export", "--home", site.node, tmp_path / "out")
    assert code == 0
    assert "尚未经见证" in err


def test_export_to_a_place_that_is_no_folder_ends_with_one(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with site.served():
        code, _, err = site.hejin("node", "export", "--home", site.node, tmp_path / "file")
    assert code == 1
    assert "hejin:" in err


def test_an_export_keeps_nobody_from_the_database(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A year's ledgers take a while; rounds go on meanwhile."""
    write, done = node_export.write_export, threading.Event()

    def slowly(*arguments: object) -> None:
        def append() -> None:
            with writing(home.database) as connection:
                home.release_log.append(connection, "void", {"reservation": 0, "reason": "x"})
            done.set()

        thread = threading.Thread(target=append)
        thread.start()
        assert done.wait(10)
        write(*arguments)  # type: ignore[arg-type]
        thread.join()

    with open_home(site.node) as home:
        monkeypatch.setattr(node_export, "write_export", slowly)
        node_export.export(home, tmp_path / "out")


# -- recover ------------------------------------------------------------------------------


def test_recover_puts_back_what_was_lost_and_serve_goes_on(site: Site, tmp_path: Path) -> None:
    site.restored(tmp_path)
    approval = site.approve(tmp_path)
    with site.served():
        code, _, err = site.hejin("node", "serve", "--home", site.node)
        assert code == 3
        assert "put back from a backup" in err
        assert "`recover`" in err
        code, out, _ = site.hejin("node", "recover", "--home", site.node, approval, "--json")
        told = json.loads(out)
        assert code == 0
        assert told == {
            "entries": 5, "reservations": 1, "unknown": 0, "authorisations": 0, "lapsed": 0,
            "runs": 1,
        }  # fmt: skip
        _, out, _ = site.hejin("node", "preflight", "--home", site.node, "--json")
        assert all(look["ok"] for look in json.loads(out)["looks"][: len(MEMBER)])
        assert served_until_ready(site)
        # The approval is part of the node's evidence.
        site.hejin("node", "export", "--home", site.node, tmp_path / "out")
        (kept,) = (site.node / FOLDER).glob("*.json")
        assert MemberExport(tmp_path / "out" / "node-1").document(kept.stem) == (
            approval.read_bytes()
        )
        # Once is enough.
        code, _, err = site.hejin("node", "recover", "--home", site.node, approval)
        assert code == 1
        assert "ask it for a new approval" in err


def served_until_ready(site: Site) -> bool:
    from hejin_node import service as node_service

    stop, ready = threading.Event(), threading.Event()

    def up() -> None:
        ready.set()
        stop.set()

    node_service.serve(site.node, up, stop)
    return ready.is_set()


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("reservations put back, all charged", "open runs ended", "ingest them again")),
        ("zh", ("补回预留（均已计费）", "已终止的运行", "请重新导入")),
    ],
)
def test_recover_shows_a_table_in_both_languages(
    site: Site, tmp_path: Path, language: str, words: tuple[str, ...]
) -> None:
    site.restored(tmp_path)
    approval = site.approve(tmp_path)
    site.speak(language)
    with site.served():
        code, out, _ = site.hejin("node", "recover", "--home", site.node, approval)
    assert code == 0
    for word in words:
        assert word in out


def changed(data: bytes) -> bytes:
    at = data.index(b'"payload":"') + 30
    return data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed, "hejin:"),
        (lambda _: b"", "hejin:"),
        (lambda _: VIEW, "hejin:"),
        (lambda _: b"x" * (2 << 20), "hejin:"),
    ],
    ids=["forged", "empty", "another file", "too long"],
)
def test_recover_with_a_false_approval_ends_with_one_and_changes_nothing(
    site: Site, tmp_path: Path, change: Callable[[bytes], bytes], says: str
) -> None:
    site.restored(tmp_path)
    approval = site.approve(tmp_path)
    approval.write_bytes(change(approval.read_bytes()))
    before = sizes(site)
    with site.served():
        code, out, err = site.hejin("node", "recover", "--home", site.node, approval)
    assert (code, out) == (1, "")
    assert says in err
    assert "Traceback" not in err
    assert sizes(site) == before
    assert not (site.node / FOLDER).exists()


def sizes(site: Site) -> tuple[int, int]:
    with open_home(site.node) as home:
        return len(release_log(home)), len(internal_log(home))


def test_recover_while_the_regulator_is_away_ends_with_one(site: Site, tmp_path: Path) -> None:
    site.restored(tmp_path)
    approval = site.approve(tmp_path)
    with site.served():
        pass
    before = sizes(site)
    code, _, err = site.hejin("node", "recover", "--home", site.node, approval)
    assert code == 1
    assert "does not answer" in err
    assert sizes(site) == before


def test_recover_while_the_node_serves_is_refused(site: Site, tmp_path: Path) -> None:
    site.restored(tmp_path)
    approval = site.approve(tmp_path)
    with site.served(), held(site.node):
        code, _, err = site.hejin("node", "recover", "--home", site.node, approval)
    assert code == 1
    assert "another process already serves" in err


def test_recover_of_a_fork_ends_with_three(site: Site, tmp_path: Path) -> None:
    site.restored(tmp_path)
    approval = site.approve(tmp_path)
    with open_home(site.node) as home, writing(home.database) as connection:
        home.release_log.append_many(
            connection, [("void", {"reservation": 0, "reason": "alone"})] * 5
        )
    with site.served():
        code, _, err = site.hejin("node", "recover", "--home", site.node, approval)
    assert code == 3
    assert "restore the backup anew" in err


def test_recover_needs_a_file(site: Site, tmp_path: Path) -> None:
    from hejin_node.cli import app

    result = CliRunner().invoke(
        app, ["recover", "--home", str(site.node), str(tmp_path / "none.json")]
    )
    assert result.exit_code == 2


def test_a_damaged_ledger_is_not_recovered(site: Site, tmp_path: Path) -> None:
    """Entries that are wrong are not entries that are missing: the backup is to be put back."""
    from sqlalchemy import update

    from hejin_trust.stored_log import TABLES

    site.restored(tmp_path)
    approval = site.approve(tmp_path)
    with open_home(site.node) as home, writing(home.database) as connection:
        connection.execute(
            update(TABLES.entry).where(TABLES.entry.c.seq == 1).values(leaf=b"\1" * 32)
        )
    with site.served():
        code, _, err = site.hejin("node", "recover", "--home", site.node, approval)
    assert code == 1
    assert "is damaged" in err
