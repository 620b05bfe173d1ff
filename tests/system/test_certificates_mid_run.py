"""Real processes over mutual TLS: a node that is revoked, at start and in the midst of a run."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from node_world import BANK
from process_world import REGULATOR, SECONDS, Members, prepared

from hejin_coordinator import parts, store
from hejin_coordinator.home import open_home as open_bank
from hejin_node.home import open_home as open_node
from hejin_regulator.authority import Office
from hejin_trust.clock import now
from hejin_trust.database import reading
from hejin_trust.entries import Entry

pytestmark = pytest.mark.system

CONNECTED, FRESH = "node-1", "node-2"
DONE = re.compile(r"event=run-done\b")
SERVES = re.compile(r"^node serves", re.M)
NOT_ADMITTED = re.compile(r"not admitted by charter")


def entries(members: Members, member: str, *types: str) -> list[Entry]:
    opened = open_bank if member == BANK else open_node
    with opened(members.folder / member) as home, reading(home.database) as connection:
        return list(home.release_log.of_type(connection, *types))


def wait_again(members: Members, member: str, pattern: re.Pattern[str], said: int) -> None:
    """Wait for words that a member says after the first `said` letters of its log."""
    end = time.monotonic() + SECONDS
    while not pattern.search(members.said(member)[said:]):
        assert time.monotonic() < end, members.tails()
        time.sleep(0.05)


def test_a_node_revoked_while_it_serves_or_before_it_starts_takes_no_part_any_more(
    tmp_path: Path,
) -> None:
    members = prepared(tmp_path, nodes=4, minimum_nodes=2)
    with members:
        # The bank dies in the run that it just opened; all nodes are connected and wait.
        members.arm(BANK, "query stored")
        members.start_all()
        for node in members.nodes:
            members.wait_for(node, SERVES)
        members.wait_for_death(BANK)
        members.stop(FRESH)
        office = Office(members.folder / REGULATOR)
        for node in (CONNECTED, FRESH):
            office.revoke(node, now())
        said = len(members.said(FRESH))
        members.start(BANK)
        members.start(FRESH)
        members.wait_for(BANK, DONE)
        # Over the connection that was good before, and at its first call.
        for node, since in ((CONNECTED, 0), (FRESH, said)):
            wait_again(members, node, NOT_ADMITTED, since)
        assert not SERVES.search(members.said(FRESH)[said:])
        members.stop_all()
    sums = len(entries(members, BANK, "result"))
    assert sums > 0
    accepted = [entry.body["node"] for entry in entries(members, BANK, "accept")]
    assert sorted(accepted) == sorted(["node-3", "node-4"] * sums)
    for node in (CONNECTED, FRESH):
        assert entries(members, node, "reserve", "release") == []
    with open_bank(members.folder / BANK) as bank, reading(bank.database) as connection:
        run = store.find_plan(connection, members.plan).run
        outcomes = {p.outcome for p in parts.parts(connection, str(run)) if p.node == CONNECTED}
    assert outcomes == {"silent"}
