"""A bank's folder: settings, membership, database, logs and models, opened together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hejin_coordinator.config import FILE, CoordinatorSettings
from hejin_trust.clock import Clock, now
from hejin_trust.home import MemberHome, open_member
from hejin_trust.membership import load
from hejin_trust.settings import read_settings

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True)
class CoordinatorHome(MemberHome):
    """An admitted bank, opened. Close it by leaving `open_home`."""

    settings: CoordinatorSettings

    @property
    def models_folder(self) -> Path:
        """Where the model registry lies."""
        return self.path / "models"

    @property
    def definitions_folder(self) -> Path:
        """Where the bank's own label definitions lie, one TOML file each."""
        return self.path / "definitions"


@contextmanager
def open_home(path: Path, clock: Clock = now, *, found: bool = True) -> Iterator[CoordinatorHome]:
    """Open the bank in `path`; raises SettingsError, MembershipError, KeyFileError, StorageError.

    The first opening after `join` founds both logs with their `genesis` entry; see `open_member`.
    """
    settings = read_settings(path / FILE, CoordinatorSettings)
    membership = load(path, settings.member, "bank", bytes.fromhex(settings.regulator_key))
    with open_member(path, membership, "coordinator.db", MIGRATIONS, clock, found=found) as base:
        yield CoordinatorHome(
            path=path,
            membership=membership,
            database=base.database,
            release_log=base.release_log,
            internal_log=base.internal_log,
            clock=clock,
            settings=settings,
        )
