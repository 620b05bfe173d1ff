"""A founded consortium in a folder, and members that ask to join it."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from ledger_lies import Build
from ledger_world import Consortium, Tamper, honest

from hejin_models.plan import Plan
from hejin_regulator import authority
from hejin_regulator.authority import Office, Terms
from hejin_trust import membership
from hejin_trust.charter import Charter
from hejin_trust.members import Role
from hejin_trust.text import Text

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def terms() -> Terms:
    """The terms of a small consortium."""
    return Terms(
        consortium="hebei",
        regulator="regulator",
        name=Text("Regulator", "监管方"),
        rho_cap=Fraction(1, 10),
        rho_alone_cap=Fraction(3, 10),
        delta=Fraction(1, 10**6),
        period_from=NOW,
        period_to=NOW + timedelta(days=365),
        minimum_nodes=3,
        minimum_enterprises=100,
        r=1,
    )


@pytest.fixture
def office(tmp_path: Path, terms: Terms) -> Office:
    """A founded consortium, charter number 1."""
    home = tmp_path / "regulator"
    authority.init(home, terms, NOW)
    return Office(home)


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of members: a folder with keys and request.json; gives the request."""

    def make(
        name: str, role: Role = "node", band: tuple[int, int] | None = (100, 5000), home: str = ""
    ) -> Path:
        return membership.found(
            tmp_path / (home or name),
            member=name,
            role=role,
            name=Text(name, "成员"),
            size_band=band if role == "node" else None,
        )

    return make


# -- exported ledgers ---------------------------------------------------------------------


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    # These tests cut no power: what is durable is tested with the log.
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def make(
        tamper: Tamper = honest,
        plan: Callable[[Plan], Plan] = replace,
        charter: Callable[[Charter], Charter] = replace,
        **more: object,
    ) -> Consortium:
        return Consortium(tmp_path / "export", tamper, plan, charter, **more).run()  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return Consortium(tmp_path_factory.mktemp("honest") / "export").run()


@pytest.fixture
def consortium(original: Consortium, tmp_path: Path) -> Consortium:
    """An honest consortium, with an export of its own to damage."""
    mine = copy.copy(original)
    mine.folder = tmp_path / "export"
    shutil.copytree(original.folder, mine.folder)
    return mine
