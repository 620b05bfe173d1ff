"""A feature view as its publisher signs it; what a name and version stand for, for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from hejin_models.errors import ViewError, ViewTakenError
from hejin_models.features import FeatureView, shipped_views
from hejin_models.toml_table import MAX_FILE_BYTES
from hejin_trust import canonical
from hejin_trust.canonical import DocumentError
from hejin_trust.envelope import VIEW, open_envelope, seal
from hejin_trust.keys import SigningKey


def publish(data: bytes, key: SigningKey, publisher: str) -> bytes:
    """Return a view file's bytes in an envelope that its publisher signs; raises ViewError."""
    view = FeatureView.parse(data)
    body = {
        "v": 1,
        "name": view.name,
        "version": view.version,
        "sha256": view.digest,
        "file": data.decode("utf-8"),
    }
    return seal(VIEW, body, key, publisher)


def open_published(envelope: bytes, public_key: bytes, publisher: str) -> bytes:
    """Return the view file in a publisher's envelope.

    raises   EnvelopeError; ViewError where the file is no view, or not the one that is named
    """
    body = open_envelope(envelope, VIEW, public_key, publisher).body
    try:
        canonical.closed(body, "v", "name", "version", "sha256", "file")
        canonical.integer(body, "v", 1, 1)
        data = canonical.text(body, "file", longest=MAX_FILE_BYTES).encode("utf-8")
        stated = (
            canonical.text(body, "name"),
            canonical.integer(body, "version"),
            canonical.text(body, "sha256"),
        )
    except DocumentError as reason:
        raise ViewError(reason.text.en, reason.text.zh) from reason
    view = FeatureView.parse(data)
    if stated != (view.name, view.version, hashlib.sha256(data).hexdigest()):
        raise ViewError(
            f"the view that {publisher} signed is not the file in it: ask {publisher} for it again",
            f"{publisher} 签名的视图与所附文件不符：请要求其重新提供",
        )
    return data


def check_unchanged(view: FeatureView, others: Iterable[FeatureView]) -> None:
    """Raise ViewTakenError if another view, or a shipped one, has this one's name and version."""
    for other in (*shipped_views().values(), *others):
        if other.id == view.id and other.digest != view.digest:
            raise ViewTakenError(
                f"view {view.id} stands for other bytes already (hash {other.digest[:12]}):"
                " a changed view needs a new version",
                f"视图 {view.id} 已对应其他内容（哈希 {other.digest[:12]}）："
                "修改后的视图须使用新版本号",
            )
