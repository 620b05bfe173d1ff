"""A node's folder: settings, membership, database, logs, warehouse and views, opened together."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hejin_models.features import FeatureView
from hejin_models.schemas import Schema, load_schemas
from hejin_node.config import FILE, NodeSettings
from hejin_node.errors import ManifestLostError, NodeError, PolicyMissingError
from hejin_node.policy_file import FILE as POLICY
from hejin_node.policy_file import Policy
from hejin_node.views import installed_views
from hejin_node.warehouse import Warehouse
from hejin_trust.clock import Clock, now
from hejin_trust.home import MemberHome, RegulatorMissingError, open_member
from hejin_trust.keys import SECRET_BYTES, read_secret, write_private
from hejin_trust.membership import load
from hejin_trust.settings import read_settings

MIGRATIONS = Path(__file__).parent / "migrations"


class ViewMissingError(NodeError):
    """A feature view is not installed at this node."""

    code = "view-not-installed"


@dataclass(frozen=True)
class NodeHome(MemberHome):
    """An admitted node, opened. Close it by leaving `open_home`."""

    settings: NodeSettings
    warehouse: Warehouse
    pseudonym_key: bytes
    snapshot_key: bytes

    @property
    def views_folder(self) -> Path:
        """Where installed feature views lie, one TOML file each."""
        return self.path / "views"

    @property
    def schemas_folder(self) -> Path:
        """Where the operator's schema files lie; it need not exist."""
        return self.path / "schemas"

    @property
    def regulator_address(self) -> str:
        """HOST:PORT of the regulator; raises RegulatorMissingError."""
        if self.settings.regulator is None:
            raise RegulatorMissingError(
                "the regulator's address is not known, and nothing leaves without its cosignature:"
                " run `hejin node join ADMISSION --regulator HOST:PORT`",
                "尚未设置监管方地址，未经其会签不会输出任何内容：请执行"
                " `hejin node join ADMISSION --regulator HOST:PORT`",
            )
        return self.settings.regulator

    def schemas(self) -> dict[str, Schema]:
        """Return the schemas of data sets as shipped and as the operator's files extend them."""
        return load_schemas(self.schemas_folder)

    def policy(self) -> Policy:
        """Return the policy as its file stands now; raises PolicyMissingError, SettingsError."""
        return read_policy(self.path / POLICY)

    @cached_property
    def _views(self) -> dict[str, FeatureView]:
        return {}

    def view(self, digest: str) -> FeatureView:
        """Return the installed view whose file has this SHA-256; raises ViewMissingError."""
        if digest not in self._views:
            self._views.update((view.digest, view) for view in installed_views(self.views_folder))
        if digest not in self._views:
            raise ViewMissingError(
                "the feature view that the plan names is not installed here:"
                " `hejin node view install FILE`",
                "计划所指的特征视图未安装：请执行 `hejin node view install FILE`",
            )
        return self._views[digest]


def read_policy(path: Path) -> Policy:
    """Return the policy in a file; raises PolicyMissingError, SettingsError naming the field."""
    if not path.exists():
        raise PolicyMissingError(
            f"there is no {path}, and nothing is approved without: `hejin node policy init`",
            f"缺少 {path}，没有策略便不批准任何计划：请执行 `hejin node policy init`",
        )
    return read_settings(path, Policy)


def make_secrets(path: Path) -> None:
    """Make the keys that only a node has; raises KeyFileError if they exist."""
    (path / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("warehouse.key", "pseudonym.key"):
        write_private(path / "keys" / name, secrets.token_bytes(SECRET_BYTES))


@contextmanager
def open_home(path: Path, clock: Clock = now, *, found: bool = True) -> Iterator[NodeHome]:
    """Open the node in `path`; raises SettingsError, MembershipError, KeyFileError, StorageError.

    The first opening after `join` founds both logs with their `genesis` entry; see `open_member`.
    raises   ManifestLostError, too: there would be a new database beside the old one's segments
    """
    settings = read_settings(path / FILE, NodeSettings)
    _check_manifest(path)
    membership = load(path, settings.member, "node", bytes.fromhex(settings.regulator_key))
    warehouse_key = read_secret(path / "keys" / "warehouse.key")
    pseudonym_key = read_secret(path / "keys" / "pseudonym.key")
    with open_member(path, membership, "node.db", MIGRATIONS, clock, found=found) as base:
        yield NodeHome(
            path=path,
            membership=membership,
            database=base.database,
            release_log=base.release_log,
            internal_log=base.internal_log,
            clock=clock,
            settings=settings,
            warehouse=Warehouse(path / "warehouse", warehouse_key, base.database, pseudonym_key),
            pseudonym_key=pseudonym_key,
            snapshot_key=hmac.digest(warehouse_key, b"hejin/snapshot/v1", "sha256"),
        )


def _check_manifest(path: Path) -> None:
    """A new database would name none of the segments that are there, and they would be removed."""
    if not (path / "node.db").exists() and any((path / "warehouse").glob("*.parquet")):
        raise ManifestLostError(
            f"{path / 'node.db'} is gone, and warehouse/ holds segments that only it can name: put"
            " it back with `hejin node data restore`, or, if there is no backup, move warehouse/ to"
            " another place and recover",
            f"{path / 'node.db'} 缺失，而 warehouse/ 中有只有它才能识别的分段文件：请执行"
            " `hejin node data restore` 恢复；如无备份，请先将 warehouse/ 移走再执行恢复流程",
        )
