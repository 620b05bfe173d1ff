"""The view of an offered plan, from a bank's real service to the node's commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from node_world import BANK, VIEW, World, found_world
from typer.testing import CliRunner, Result

from hejin.v1 import coordinator_pb2_grpc as pb_grpc
from hejin_coordinator import config, store
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.home import open_home as open_bank
from hejin_coordinator.service import ROLES, PlanServicer
from hejin_models.features import FeatureView, view_file
from hejin_models.plan import ViewReference
from hejin_node import offers
from hejin_node.cli import app
from hejin_node.config import FILE, NodeSettings
from hejin_node.home import open_home
from hejin_trust.canonical import time_text
from hejin_trust.channels import PeerInterceptor, PeerRefused, bind, server, server_credentials
from hejin_trust.database import writing
from hejin_trust.envelope import PLAN, open_envelope
from hejin_trust.errors import HejinError
from hejin_trust.settings import read_settings, write_settings

MINE = VIEW.replace(b'name = "firms"', b'name = "theirs"', 1)
PEEKING = MINE.replace(
    b"SELECT enterprise, staff, kind FROM firms",
    b"SELECT enterprise, staff - avg(staff) OVER () AS staff, kind FROM firms",
)


@dataclass
class Desk:
    """A bank that answers at its port, and a node that knows the port."""

    world: World
    bank: CoordinatorHome
    home: Path

    def offer(self, view: bytes, *, named: bytes | None = None, to: str | None = None) -> str:
        """Let the bank make a plan with a view (and name another one in it); return its hash."""
        said = FeatureView.parse(named or view)
        nodes = (to,) if to else tuple(sorted(self.world.nodes))
        envelope, digest, _ = self.world.propose(
            view=ViewReference(said.name, said.version, said.digest), nodes=nodes
        )
        opened = open_envelope(envelope, PLAN, self.world.bank.identity.public)
        at = time_text(self.world.clock())
        with writing(self.bank.database) as connection:
            store.insert_plan(connection, digest, at, envelope, opened.payload, view, False)
        with open_home(self.home) as node:
            offers.receive(node, envelope)
        return digest

    def run(self, *words: str) -> Result:
        result = CliRunner().invoke(app, [*words, "--home", str(self.home)])
        if isinstance(result.exception, HejinError):
            raise result.exception
        return result

    def answer(self, *words: str) -> dict[str, object]:
        result = self.run(*words, "--json")
        assert result.exit_code == 0, result.output
        found: dict[str, object] = json.loads(result.stdout)
        return found


@pytest.fixture(name="desk")
def _desk(tmp_path: Path) -> Iterator[Desk]:
    world = found_world(tmp_path, nodes=2)
    key = world.office.identity.public.hex()
    write_settings(
        world.folder / BANK / config.FILE,
        config.CoordinatorSettings(member=BANK, regulator_key=key, regulator="127.0.0.1:1"),
    )
    home = world.nodes["node-1"]
    with open_bank(world.folder / BANK) as bank:
        listening = server([PeerInterceptor(bank.charters, ROLES)], 4)
        pb_grpc.add_PlanServiceServicer_to_server(PlanServicer(bank), listening)  # type: ignore[no-untyped-call]
        keys = bank.membership
        credentials = server_credentials(
            keys.tls_key_pem, keys.certificate_pem, bank.charter.ca_certificate
        )
        port = bind(listening, "127.0.0.1:0", credentials)
        listening.start()
        settings = read_settings(home / FILE, NodeSettings)
        known = settings.model_copy(update={"banks": {BANK: f"127.0.0.1:{port}"}})
        write_settings(home / FILE, known)
        yield Desk(world, bank, home)
        listening.stop(0).wait()


def test_a_view_goes_from_the_banks_offer_to_the_nodes_installed_views(
    desk: Desk, tmp_path: Path
) -> None:
    digest = desk.offer(MINE)
    (offered,) = desk.answer("view", "offered")["offered"]  # type: ignore[misc]
    assert (offered["view"], offered["installed"]) == ("theirs-v1", False)
    out = tmp_path / "theirs.toml"
    shown = desk.answer("view", "fetch", digest[:12], "--out", str(out))
    assert out.read_bytes() == MINE
    assert shown["grade"] == "core"
    assert shown["self_check"]["unmoved"] == []  # type: ignore[index]
    assert {one["column"] for one in shown["columns"]} == {"staff", "kind"}  # type: ignore[attr-defined]
    assert not list((desk.home / "views").glob("theirs*"))
    desk.answer("view", "install", str(out))
    (offered,) = desk.answer("view", "offered")["offered"]  # type: ignore[misc]
    assert offered["installed"] is True


def test_a_fetched_view_is_shown_in_words(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEJIN_LANG", "zh")
    monkeypatch.setenv("COLUMNS", "160")
    shown = desk.run("view", "fetch", desk.offer(view_file("trade-v1"))).stdout
    for words in ("invoices", "counterparty", "重要", "近12个月销售额(不含税)", "signed_log",
                  "自检通过", "FROM invoices"):  # fmt: skip
        assert words in shown
    assert "否：请获取" in desk.run("view", "offered").stdout


def test_a_view_that_cheats_is_shown_and_refused(desk: Desk) -> None:
    digest = desk.offer(PEEKING)
    with pytest.raises(HejinError, match="across enterprises"):
        desk.run("view", "fetch", digest)
    result = CliRunner().invoke(app, ["view", "fetch", digest, "--home", str(desk.home), "--json"])
    assert json.loads(result.stdout)["self_check"] == {"refused": "view-crosses-enterprises"}


def test_a_bank_that_sends_another_view_than_its_plan_names_is_refused(desk: Desk) -> None:
    digest = desk.offer(PEEKING, named=MINE)
    with pytest.raises(HejinError, match="do not install it") as refused:
        desk.run("view", "fetch", digest)
    assert refused.value.code == "view-not-as-planned"


def test_a_node_gets_no_view_of_a_plan_that_does_not_invite_it(desk: Desk) -> None:
    digest = desk.offer(MINE, to="node-2")
    with pytest.raises(PeerRefused) as refused:
        desk.run("view", "fetch", digest)
    assert refused.value.peer_code == "view-unknown"


def test_a_bank_without_address_cannot_be_asked(desk: Desk) -> None:
    digest = desk.offer(MINE)
    settings = read_settings(desk.home / FILE, NodeSettings)
    write_settings(desk.home / FILE, settings.model_copy(update={"banks": {}}))
    with pytest.raises(HejinError, match="address of bank-1 is not set") as refused:
        desk.run("view", "fetch", digest)
    assert refused.value.code == "bank-address-unknown"
