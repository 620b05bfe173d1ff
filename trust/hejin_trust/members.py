"""A member as the charter names it: role, name, keys, certificate, standing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from hejin_trust import canonical
from hejin_trust.keys import check_public
from hejin_trust.text import Text

Role = Literal["node", "bank", "regulator"]
Status = Literal["admitted", "revoked"]

LARGEST_SIZE: Final = 10**8
"""Largest number of enterprises a node may declare."""

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ADDRESS = re.compile(r"[A-Za-z0-9.\-\[\]:_]{1,255}:[0-9]{1,5}")
_MEMBER_FIELDS: Final = (
    "id",
    "role",
    "name",
    "identity_key",
    "log_key",
    "certificate",
    "status",
    "size_band",
    "address",
)


def check_id(value: str) -> None:
    """Raise DocumentError unless `value` can name a member or consortium.

    1 to 63 characters of a-z, 0-9 and hyphen, not starting with a hyphen: it is used
    in certificates, log origins and folder names as it is.
    """
    if not _ID.fullmatch(value):
        canonical.refuse(
            "a name is not 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit",
            "名称应为 1 至 63 个 a-z、0-9 或 '-'，以字母或数字开头",
        )


def check_address(value: str) -> None:
    """Raise DocumentError unless `value` is HOST:PORT with a port of 1..65535."""
    if not _ADDRESS.fullmatch(value) or not 0 < int(value.rpartition(":")[2]) <= 65535:
        canonical.refuse(
            "an address is not HOST:PORT with a port of 1 to 65535",
            "地址应为 HOST:PORT，端口为 1 至 65535",
        )


@dataclass(frozen=True, slots=True)
class Member:
    """One member as the charter names it.

    identity_key              Ed25519 key that signs its documents, 32 bytes
    log_key                   Ed25519 key that signs its logs' checkpoints, 32 bytes
    certificate_fingerprint   SHA-256 of its TLS certificate (DER), lower-case hex
    size_band                 nodes: declared public number of enterprises (at least, at most)
    address                   HOST:PORT where it listens, if it does
    """

    id: str
    role: Role
    name: Text
    identity_key: bytes
    log_key: bytes
    certificate_fingerprint: str
    status: Status = "admitted"
    size_band: tuple[int, int] | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        """Raise DocumentError or KeyFileError if a field is out of range."""
        check_id(self.id)
        check_public(self.identity_key)
        check_public(self.log_key)
        if self.identity_key == self.log_key:
            canonical.refuse(
                "a member uses one key for documents and logs", "成员的文件密钥与日志密钥相同"
            )
        canonical.hexbytes({"certificate": self.certificate_fingerprint}, "certificate", 32)
        for name in (self.name.en, self.name.zh):
            if not 1 <= len(name) <= 100 or not name.isprintable():
                canonical.refuse(
                    "a name is not 1 to 100 printable characters", "名称应为 1 至 100 个字符"
                )
        if (self.size_band is not None) != (self.role == "node"):
            canonical.refuse("nodes, and only nodes, declare a size band", "规模区间仅由节点申报")
        if self.size_band is not None:
            low, high = self.size_band
            if not 1 <= low <= high <= LARGEST_SIZE:
                canonical.refuse("a size band is not 1 <= low <= high <= 10^8", "规模区间无效")
        if self.address is not None:
            check_address(self.address)

    @property
    def admitted(self) -> bool:
        """Whether the member may take part now."""
        return self.status == "admitted"

    def body(self) -> dict[str, object]:
        """Return the canonical document body (no band: [], no address: "")."""
        return {
            "id": self.id,
            "role": self.role,
            "name": self.name.body(),
            "identity_key": self.identity_key.hex(),
            "log_key": self.log_key.hex(),
            "certificate": self.certificate_fingerprint,
            "status": self.status,
            "size_band": list(self.size_band or ()),
            "address": self.address or "",
        }

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> Member:
        """Return the member that `body` describes; raises DocumentError."""
        canonical.closed(body, *_MEMBER_FIELDS)
        return cls(
            id=canonical.text(body, "id"),
            role=role_from(canonical.text(body, "role")),
            name=name_from(canonical.child(body, "name")),
            identity_key=canonical.hexbytes(body, "identity_key", 32),
            log_key=canonical.hexbytes(body, "log_key", 32),
            certificate_fingerprint=canonical.text(body, "certificate"),
            status=_status_from(canonical.text(body, "status")),
            size_band=size_band_from(canonical.items(body, "size_band")),
            address=canonical.text(body, "address") or None,
        )


def role_from(value: str) -> Role:
    """Return `value` as a role; raises DocumentError."""
    if value not in get_args(Role):
        canonical.refuse(
            "a role is not node, bank or regulator", "角色不是 node、bank 或 regulator"
        )
    return cast("Role", value)


def _status_from(value: str) -> Status:
    if value not in get_args(Status):
        canonical.refuse("a status is not admitted or revoked", "状态不是 admitted 或 revoked")
    return cast("Status", value)


def name_from(body: Mapping[str, object]) -> Text:
    """Return the bilingual name {"en", "zh"}; raises DocumentError."""
    canonical.closed(body, "en", "zh")
    return Text(canonical.text(body, "en", longest=100), canonical.text(body, "zh", longest=100))


def size_band_from(values: list[object]) -> tuple[int, int] | None:
    """Return [low, high] as a pair and [] as None; raises DocumentError."""
    if not values:
        return None
    if len(values) != 2:
        canonical.refuse("a size band has not two numbers", "规模区间不是两个数")
    low, high = (canonical.integer({"size_band": v}, "size_band", 1, LARGEST_SIZE) for v in values)
    return low, high
