"""A published view: the file and who signed it, and nothing that is not so."""

from __future__ import annotations

import hashlib

import pytest
from models_world import VIEW

from hejin_models.errors import ViewError, ViewTakenError
from hejin_models.features import FeatureView, view_file
from hejin_models.published import check_unchanged, open_published, publish
from hejin_trust import envelope
from hejin_trust.envelope import EnvelopeError, seal
from hejin_trust.keys import SigningKey

KEY = SigningKey.generate()
RAW = VIEW.encode()


def body() -> dict[str, object]:
    digest = hashlib.sha256(RAW).hexdigest()
    return {"v": 1, "name": "test-view", "version": 3, "sha256": digest, "file": VIEW}


def test_what_is_published_comes_out_byte_for_byte() -> None:
    for data in (RAW, view_file("full-v1"), RAW.replace(b"\n", b"\r\n", 3) + "# 注\t\n".encode()):
        assert open_published(publish(data, KEY, "bank-1"), KEY.public, "bank-1") == data


def test_the_same_view_is_signed_the_same_every_time() -> None:
    assert publish(RAW, KEY, "bank-1") == publish(RAW, KEY, "bank-1")


def test_a_view_by_another_key_name_or_type_is_refused() -> None:
    signed = publish(RAW, KEY, "bank-1")
    for key, name in ((SigningKey.generate().public, "bank-1"), (KEY.public, "bank-2")):
        with pytest.raises(EnvelopeError):
            open_published(signed, key, name)
    with pytest.raises(EnvelopeError, match="not of type"):
        open_published(seal(envelope.PLAN, body(), KEY, "bank-1"), KEY.public, "bank-1")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "other"}, "is not the file in it"),
        ({"version": 4}, "is not the file in it"),
        ({"sha256": "0" * 64}, "is not the file in it"),
        ({"file": VIEW + "#"}, "is not the file in it"),
        ({"file": "name = 1"}, "`name` must be a text"),
        ({"file": "a" * 300_000}, "longer than"),
        ({"file": 1}, "not a text"),
        ({"v": 2}, "v"),
        ({"more": 1}, "1 unknown field"),
    ],
)
def test_a_view_that_is_not_what_is_said_of_it_is_refused(
    changes: dict[str, object], complaint: str
) -> None:
    signed = seal(envelope.VIEW, {**body(), **changes}, KEY, "bank-1")
    with pytest.raises(ViewError, match=complaint):
        open_published(signed, KEY.public, "bank-1")


def test_a_name_and_version_stand_for_one_file() -> None:
    view = FeatureView.parse(RAW)
    check_unchanged(view, [view])
    with pytest.raises(ViewTakenError, match="test-view-v3 stands for other bytes"):
        check_unchanged(FeatureView.parse(RAW + b"#"), [view])
    check_unchanged(FeatureView.parse(RAW.replace(b"version = 3", b"version = 4")), [view])
