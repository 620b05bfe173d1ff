"""Labels by private set intersection as people run it: real processes, commands, an export."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import said, typed

from hejin_models.uscc import make_code
from hejin_node.consent import authorisations
from hejin_node.home import open_home
from hejin_sandbox.supervisor import LISTENING, Supervisor
from hejin_trust.channels import PeerRefused
from hejin_trust.database import reading
from hejin_trust.errors import HejinError

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

DEFINITION = "overdue90-12m-v1"
AUTHORISED, BORROWERS = range(30), range(20, 60)


@dataclass
class Served:
    """A consortium whose regulator, bank and node serve as processes of their own."""

    folder: Path
    services: Supervisor

    @property
    def node(self) -> tuple[str, Path]:
        return "--home", self.folder / "node"

    @property
    def bank(self) -> tuple[str, Path]:
        return "--home", self.folder / "bank"

    def match(self, *more: object) -> dict[str, object]:
        return said("node", "labels", "match", *self.node, "--bank", "bank-1",
                    "--definition", DEFINITION, *more)  # fmt: skip


def authorise(folder: Path, numbers: range) -> None:
    lines = [
        f"{make_code(n)},{'ab' * 32},B,model-training,bank-1,*;outcome,*,2026-01-01,2099-01-01\n"
        for n in numbers
    ]
    path = folder / "authorisations.csv"
    header = "enterprise,document,grade,purposes,banks,categories,features,valid_from,valid_to\n"
    path.write_text(header + "".join(lines))
    said("node", "authorisation", "import", "--home", folder / "node", path)


def outcomes(folder: Path, numbers: range) -> Path:
    path = folder / "outcomes.csv"
    lines = [f"{make_code(n)},{120 if n % 4 == 0 else 5}\n" for n in numbers]
    path.write_text("enterprise,days_overdue\n" + "".join(lines))
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("labels")
    key = said(
        "regulator", "init", "--home", folder / "reg", "--consortium", "hebei",
        "--epsilon-cap", "20", "--minimum-nodes", "1", "--minimum-enterprises", "10",
    )["regulator_key"]  # fmt: skip
    for role, home, member in (("node", "node", "anping"), ("coordinator", "bank", "bank-1")):
        band = ("--size-band", "50:100") if role == "node" else ()
        said(role, "init", "--home", folder / home, "--member", member, "--name-en", member,
             "--name-zh", "成员", "--regulator-key", key, *band)  # fmt: skip
    admitted = said(
        "regulator", "admit", "--home", folder / "reg", folder / "node" / "request.json",
        folder / "bank" / "request.json", "--out", folder / "admissions",
    )["admitted"]  # fmt: skip
    assert isinstance(admitted, dict)
    with Supervisor(folder / "logs") as services:

        def serve(name: str, *arguments: str) -> str:
            serving = services.serve(name, list(arguments), folder / name)
            return serving.wait_for(LISTENING, 60.0).group(1)

        regulator = serve("reg", "regulator", "serve", "--listen", "127.0.0.1:0")
        said("coordinator", "join", "--home", folder / "bank", admitted["bank-1"],
             "--regulator", regulator)  # fmt: skip
        bank = serve("bank", "coordinator", "serve", "--listen", "127.0.0.1:0")
        said("node", "join", "--home", folder / "node", admitted["anping"], "--bank",
             f"bank-1={bank}", "--regulator", regulator)  # fmt: skip
        authorise(folder, AUTHORISED)
        said(
            "coordinator", "outcomes", "import", "--home", folder / "bank",
            outcomes(folder, BORROWERS), "--definition", DEFINITION, "--period", "2025",
        )  # fmt: skip
        services.serve("node", ["node", "serve"], folder / "node")
        yield Served(folder, services)


def test_outcomes_come_to_a_node_that_serves_and_the_regulator_verifies_it(
    served: Served, tmp_path: Path
) -> None:
    found = served.match()
    assert (found["slots"], found["asked"], found["labels"]) == (100, 30, 10)
    assert (found["loaded"], found["quarantined"]) == (10, {})
    again = served.match("--period", "2025")
    assert (again["labels"], again["loaded"]) == (10, 0)
    assert (
        "10 of 30 enterprises"
        in typed(
            "node", "labels", "match", *served.node, "--bank", "bank-1", "--definition", DEFINITION
        ).stdout
    )
    listed = said("node", "labels", "sessions", *served.node)["sessions"]
    assert isinstance(listed, list)
    assert [one["state"] for one in listed] == ["answered"] * 3
    audited = said("node", "labels", "audit", *served.node, found["session"])
    assert audited["size"] == 30
    export = tmp_path / "export"
    for role, home in (("node", served.node), ("coordinator", served.bank)):
        typed(role, "export", *home, export)
    said("regulator", "export", "--home", served.folder / "reg", export)
    verified = said("regulator", "verify", "--home", served.folder / "reg", export)
    assert verified["ok"] is True
    counts = verified["counts"]
    assert isinstance(counts, dict)
    assert counts["labels.request"] == counts["labels.ask"] == counts["labels.answer"] == 3


def test_the_labels_of_a_bank_are_kept_under_its_name_alone(served: Served) -> None:
    """A plan of another bank names labels of that bank: it finds none of these."""
    served.match()
    with open_home(served.folder / "node") as node:
        assert node.warehouse.rows("labels", f"bank-1/{DEFINITION}") == 10
        assert node.warehouse.rows("labels", f"bank-2/{DEFINITION}") == 0
        with reading(node.database) as connection:
            assert len(authorisations(connection)) == 30


def test_what_cannot_be_asked_is_one_sentence_and_leaves_no_trace_of_data(served: Served) -> None:
    with pytest.raises(HejinError, match="address of bank-9 is not known"):
        typed(
            "node", "labels", "match", *served.node, "--bank", "bank-9", "--definition", DEFINITION
        )
    with pytest.raises(PeerRefused, match="no outcomes by that definition") as refused:
        typed(
            "node", "labels", "match", *served.node, "--bank", "bank-1", "--definition", "other-v1"
        )
    assert refused.value.exit_code == 1
    with pytest.raises(HejinError, match="these periods: 2025"):
        served.match("--period", "1999")
