"""The other clusters of a plan: generated data in homes of their own, each a serving process."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from commands import answer, run, said

from hejin_sandbox.generator import CLUSTERS, generate
from hejin_sandbox.inputs import from_cluster, write_authorisations, write_labels
from hejin_sandbox.operations import operations
from hejin_sandbox.supervisor import Service, Supervisor

READY = re.compile(r"^node serves", re.MULTILINE)
_SCOPE = ("production", "equipment", "trade", "logistics", "fulfilment")


@dataclass(frozen=True)
class OtherCluster:
    """A pilot cluster that approves plans by its policy.

    enterprises  how many it has and declares, the first of synthetic code number `first`
    """

    name: str
    home: Path
    enterprises: int
    first: int

    def found(self, regulator_key: str, epsilon: float) -> Path:
        """Make its keys; return its request for admission."""
        said(
            "node", "init", "--home", self.home, "--member", self.name, "--name-en", self.name,
            "--name-zh", self.name, "--regulator-key", regulator_key, "--size-band",
            f"{self.enterprises}:{2 * self.enterprises}", "--approve-up-to", epsilon,
        )  # fmt: skip
        return self.home / "request.json"

    def join(self, admission: Path, regulator: str, bank: str, address: str) -> None:
        dialled = ("--regulator", regulator, "--bank", f"{bank}={address}")
        answer(self.home, "join", admission, *dialled)

    def load(self, plan: Mapping[str, object], bank: str) -> None:
        """Give it what a plan file asks for: data of all categories, the bank's outcomes, a view.

        Its enterprises' authorisations are as those of `hejin sandbox data`.
        """
        (cluster,) = (one for one in CLUSTERS if one.id == self.name)
        data = generate(cluster, self.enterprises, seed=self.first)
        node = from_cluster(data, self.first)
        files = self.home.with_name(f"{self.name}-files")
        files.mkdir()
        tables = {"invoices": node.records, **operations(data, node.codes, seed=self.first)}
        for dataset, table in tables.items():
            records, mapping = files / f"{dataset}.parquet", files / f"{dataset}.toml"
            pq.write_table(table, records)
            columns = "".join(f"[columns.{name}]\n" for name in table.column_names[1:])
            mapping.write_text(
                f'dataset = "{dataset}"\n[enterprise]\ncolumn = "enterprise"\n{columns}'
            )
            answer(self.home, "ingest", records, "--mapping", mapping)
        authorisations, labels = files / "authorisations.csv", files / "labels.csv"
        write_authorisations(
            node.codes, authorisations, bank=bank, categories=_SCOPE, features=["*"],
            today=dt.datetime.now(dt.UTC).date(),
        )  # fmt: skip
        answer(self.home, "authorisation", "import", authorisations)
        write_labels(node.codes, node.labels, labels)
        definition = ("--definition", plan["definition"])
        answer(self.home, "labels", "load", labels, "--bank", bank, *definition)
        answer(self.home, "view", "install", plan["view"])

    def serve(self, supervisor: Supervisor) -> Service:
        return supervisor.serve(self.name, ["node", "serve"], self.home)

    def export(self, folder: Path) -> bool:
        """Write its ledgers for the regulator; return whether that went well."""
        return run(self.home, "export", folder).exit_code == 0
