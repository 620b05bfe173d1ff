"""Watching a folder or a database: each source once, failures told once, a clean end."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_node.errors import IngestError, SourceGoneError, WarehouseError
from hejin_node.watch import (
    Folder,
    StoppedError,
    files_in,
    source_files,
    stopping,
    watch_database,
    watch_folder,
)
from hejin_trust.errors import HejinError


def nothing() -> None:
    """Nothing to do at the end of a look."""


def test_a_file_is_taken_once_it_looks_the_same_twice() -> None:
    folder = Folder()
    assert folder.settled({"a": (1, 1, 1)}) == []
    assert folder.settled({"a": (2, 2, 1), "b": (1, 1, 2)}) == []
    assert folder.settled({"a": (2, 2, 1), "b": (1, 1, 2)}) == ["a", "b"]
    folder.done("a")
    assert folder.settled({"a": (2, 2, 1), "b": (1, 1, 2)}) == ["b"]  # not done: again
    folder.done("b")
    assert folder.settled({"a": (3, 3, 1), "b": (1, 1, 2)}) == []
    assert folder.settled({"a": (3, 3, 1), "b": (1, 1, 2)}) == ["a"]  # it changed


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.tuples(*[st.integers(0, 1)] * 3)), max_size=12
    )
)
def test_no_version_of_a_file_is_taken_twice_in_a_row_and_none_before_it_is_at_rest(looks) -> None:
    folder = Folder()
    before: dict[str, object] = {}
    taken: dict[str, object] = {}
    for found in looks:
        taken = {name: stamp for name, stamp in taken.items() if name in found}
        ready = folder.settled(found)
        assert ready == sorted(
            name
            for name, stamp in found.items()
            if before.get(name) == stamp and taken.get(name) != stamp
        )
        for name in ready:
            folder.done(name)
            taken[name] = found[name]
        before = found


def test_only_files_that_may_be_sources_are_seen(tmp_path: Path) -> None:
    for name in ("a.csv", "b.PARQUET", "c.xlsx", "~$c.xlsx", ".d.csv", "e.txt", "f.csv.part"):
        (tmp_path / name).write_text("x")
    assert sorted(source_files(tmp_path)) == ["a.csv", "b.PARQUET", "c.xlsx"]
    assert [path.name for path in files_in([tmp_path])] == ["a.csv", "b.PARQUET", "c.xlsx"]
    assert files_in([tmp_path / "e.txt"]) == [tmp_path / "e.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(IngestError, match="holds no"):
        files_in([tmp_path / "empty"])
    with pytest.raises(IngestError, match="cannot be read"):
        source_files(tmp_path / "absent")


def test_links_pipes_and_folders_are_no_sources_and_hide_no_other(tmp_path: Path) -> None:
    """Whoever puts files there may not choose which of the node's are read, nor stop the rest."""
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("x")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").symlink_to(elsewhere)
    (folder / "b.csv").symlink_to(tmp_path / "nowhere")
    (folder / "c.csv").symlink_to("c.csv")
    (folder / "d.csv").mkdir()
    os.mkfifo(folder / "e.csv")
    (folder / "f.csv").write_text("x")
    assert list(source_files(folder)) == ["f.csv"]


class Rounds(threading.Event):
    """An event that is set after so many waits, each of which does something instead."""

    def __init__(self, *steps: object) -> None:
        super().__init__()
        self.steps = list(steps)

    def wait(self, timeout: float | None = None) -> bool:
        step = self.steps.pop(0)
        if callable(step):
            step()
        if not self.steps:
            self.set()
        return self.is_set()


def test_a_watched_folder_gives_each_file_once_and_a_bad_one_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("1")
    (tmp_path / "bad.csv").write_text("2")
    taken: list[str] = []
    failures: list[tuple[str, str]] = []

    def take(path: Path) -> None:
        taken.append(path.name)
        if path.name == "bad.csv":
            raise IngestError("bad", "坏")

    stop = Rounds(None, None, None, lambda: (tmp_path / "late.csv").write_text("3"), None, None)
    watch_folder(
        tmp_path, take, nothing, lambda name, why: failures.append((name, why.code)), stop, 1
    )
    assert taken == ["bad.csv", "good.csv", "late.csv"]
    assert failures == [("bad.csv", "file-refused")]


@pytest.mark.parametrize(
    "reason", [WarehouseError("full", "满"), SourceGoneError("gone", "断"), HejinError("x", "x")]
)
def test_what_is_not_the_files_fault_is_tried_again_and_told_once(
    tmp_path: Path, reason: HejinError
) -> None:
    (tmp_path / "a.csv").write_text("1")
    failures: list[str] = []
    tries: list[int] = []

    def take(_path: Path) -> None:
        tries.append(1)
        if len(tries) < 4:
            raise reason

    watch_folder(
        tmp_path,
        take,
        nothing,
        lambda _name, why: failures.append(why.code),
        Rounds(*[None] * 7),
        1,
    )
    assert len(tries) == 4
    assert failures == [reason.code]


def test_each_look_ends_with_one_check_whose_failure_is_told_once(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("1")
    course: list[str] = []
    failures: list[str] = []

    def after() -> None:
        course.append("checked")
        if len(course) > 1:
            raise HejinError("bad rule", "规则有误")

    watch_folder(
        tmp_path,
        lambda path: course.append(path.name),
        after,
        lambda name, _why: failures.append(name),
        Rounds(None, None, None),
        1,
    )
    assert course[:4] == ["checked", "a.csv", "b.csv", "checked"]  # settled at the second look
    assert failures == ["quality"]


def test_a_folder_that_goes_away_is_told_once_and_watched_again(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    failures: list[str] = []
    taken: list[str] = []

    def back() -> None:
        folder.mkdir()
        (folder / "a.csv").write_text("1")

    watch_folder(
        folder,
        lambda path: taken.append(path.name),
        nothing,
        lambda name, _why: failures.append(name),
        Rounds(None, None, back, None, None),
        1,
    )
    assert (failures, taken) == (["in"], ["a.csv"])


def test_a_database_is_asked_each_time_and_its_failure_told_once_until_it_is_back() -> None:
    outcomes = [None, "gone", "gone", None, "gone"]
    failures: list[str] = []

    def take() -> None:
        if outcomes.pop(0):
            raise SourceGoneError("gone", "断")

    watch_database(take, lambda _name, why: failures.append(why.code), Rounds(*[None] * 5), 1)
    assert outcomes == []
    assert failures == ["source-gone", "source-gone"]


def test_a_stop_ends_the_reading_of_a_file_and_the_watch(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1")
    (tmp_path / "b.csv").write_text("1")
    stop = Rounds(None, None)
    taken: list[str] = []

    def take(path: Path) -> None:
        taken.append(path.name)
        stop.set()
        stopping(lambda _done, _size: None, stop)(1, 2)

    watch_folder(tmp_path, take, nothing, lambda *_: pytest.fail("a stop is no failure"), stop, 1)
    assert taken == ["a.csv"]
    with pytest.raises(StoppedError):
        stopping(lambda _done, _size: None, stop)(1, 2)
