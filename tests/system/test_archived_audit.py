"""The regulator's audit of members that have archived their old entries."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hejin_coordinator import export as bank_export
from hejin_models.features import view_file
from hejin_node import export as node_export
from hejin_regulator import mirror_export
from hejin_regulator.authority import Office
from hejin_regulator.findings import Verification
from hejin_regulator.verify import verify_export
from hejin_sandbox.generator import AS_OF, CLUSTERS, generate
from hejin_sandbox.inputs import from_cluster
from hejin_sandbox.memory import MemoryConsortium, memory_consortium
from hejin_sandbox.tables import BANK, REGULATOR
from hejin_trust.archive import archive
from hejin_trust.archived import ArchiveMissingError
from hejin_trust.canonical import time_text
from hejin_trust.charter import Charter
from hejin_trust.clock import now
from hejin_trust.export import LOG_NAMES
from hejin_trust.home import MemberHome
from hejin_trust.ledger import open_ledger
from hejin_trust.witness import Witness


def audited(consortium: MemoryConsortium, home: Path, folder: Path) -> Verification:
    """Export everybody's part and let the regulator verify it."""
    bank_export.export(consortium.bank, folder)
    for node in consortium.nodes.values():
        node_export.export(node, folder)
    office = Office(home / REGULATOR)
    mirror_export.export(
        office, consortium.mirror, folder, now(), with_logs=False, progress=lambda *_: None
    )
    return verify_export(folder, office.identity.public)


def next_period(charter: Charter) -> Charter:
    """The charter of the next budget period: under it, all of this one's entries may go."""
    end = time_text(now().replace(year=now().year + 3))
    return replace(charter, serial=charter.serial + 1, period_from=charter.period_to, period_to=end)


def test_an_audit_finds_the_same_with_archives_and_says_which_is_missing(tmp_path: Path) -> None:
    homes = tmp_path / "homes"
    homes.mkdir()
    nodes = [
        from_cluster(generate(cluster, 300, 1), first_code=place * 300)
        for place, cluster in enumerate(CLUSTERS[:2])
    ]
    with memory_consortium(homes, nodes, view_file("trade-v1"), epsilon_cap=80.0) as consortium:
        consortium.train(consortium.propose(19.0, AS_OF.astype(object)))
        members: dict[str, MemberHome] = {**consortium.nodes, BANK: consortium.bank}
        for session in consortium.sessions.values():
            session.fetch_receipts()
        for witness in consortium.witnesses.values():
            witness.refresh()
        Witness(consortium.bank, consortium.mirror.door(BANK)).refresh()
        before = audited(consortium, homes, tmp_path / "before")
        assert before.ok, before.findings
        sealed = []
        for member in members:
            with open_ledger(homes / member) as ledger:
                for name in LOG_NAMES:
                    part = partial(ledger.part, tmp_path / "sealed", name)
                    charter = next_period(ledger.charter)
                    done = archive(ledger.engine, ledger.log(name), charter, part)
                    sealed += [] if done.archive is None else [done.archive]
        assert len(sealed) >= 5  # a bank's internal log holds its genesis alone, which stays
        for home in members.values():
            home.verify_logs()
        after = audited(consortium, homes, tmp_path / "after")
        assert after.ok, after.findings
        for path in (tmp_path / "before").rglob("*.jsonl"):
            again = tmp_path / "after" / path.relative_to(tmp_path / "before")
            assert again.read_bytes() == path.read_bytes()
        # The members go on: nothing that a run needs was let go.
        consortium.train(consortium.propose(19.0, AS_OF.astype(object)))
        missing = sealed[0].path
        missing.unlink()
        with pytest.raises(ArchiveMissingError, match=missing.name):
            audited(consortium, homes, tmp_path / "without")
