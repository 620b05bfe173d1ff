"""The story is readable in both languages, and on no terminal too."""

from __future__ import annotations

import io
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from hejin_sandbox.story import Kept, Result, Story, commands, wrapped
from hejin_trust.text import Text

_RESULT = Result(
    test_auc=0.7712,
    test_ks=0.41,
    private_auc=0.769,
    private_auc_se=0.011,
    pooled_scorecard_auc=0.785,
    alone_auc_mean=0.731,
    epsilon=2.0,
    delta=1e-6,
    rho=0.0623,
    mode="node",
    nodes=8,
    enterprises=30000,
    sums=7,
    seconds=61.2,
    seconds_per_sum=1.4,
    verified=True,
)


def _told(monkeypatch: pytest.MonkeyPatch, lang: str, result: Result = _RESULT) -> str:
    monkeypatch.setenv("HEJIN_LANG", lang)
    out = io.StringIO()
    story = Story(Console(file=out, width=100, force_terminal=False))
    story.title(Text("A consortium", "一个联盟"))
    with story.step(Text("started [8] nodes", "已启动 [8] 个节点")):
        pass
    with story.counted(Text("sums", "求和"), 7) as done:
        done(3)
    story.finish(result)
    return out.getvalue()


def test_the_story_tells_each_step_and_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    said = _told(monkeypatch, "en")
    assert "✓ started [8] nodes" in said
    for number in ("0.771", "0.769 ± 0.011", "0.785", "0.731", "30,000", "1e-06"):
        assert number in said


def test_the_story_is_told_in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    said = _told(monkeypatch, "zh")
    assert "已启动 [8] 个节点" in said
    assert "监管端核验" in said
    assert "通过" in said


def test_numbers_that_noise_hides_are_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    result = replace(_RESULT, private_auc=None, private_auc_se=None, alone_auc_mean=None)
    assert _told(monkeypatch, "en", result).count("too few to tell") == 2


def test_a_step_that_fails_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEJIN_LANG", "en")
    out = io.StringIO()
    story = Story(Console(file=out, width=100))
    with pytest.raises(RuntimeError), story.step(Text("training", "训练")):
        raise RuntimeError
    assert "✗ training" in out.getvalue()


@given(st.text(alphabet="ab ,.合金数据，。（）“", max_size=80), st.integers(8, 30))
def test_wrapping_loses_nothing_but_blanks_at_line_ends(words: str, width: int) -> None:
    lines = wrapped(words, width)
    assert "".join("".join(lines).split()) == "".join(words.split())


def test_chinese_wraps_anywhere_but_before_punctuation() -> None:
    assert wrapped("数据不出域，模型共用。", 10) == ["数据不出", "域，模型共", "用。"]
    assert wrapped("noise of ±28 enterprises", 12) == ["noise of ±28", "enterprises"]
    long = "隐私保护依靠众多企业相互掩护；企业达到 4,000 家时，规律才会超过噪声。" * 3
    assert all(cell_len(line) <= 40 for line in wrapped(long, 40))


def test_the_guide_names_the_folder_and_commands_that_can_be_copied(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEJIN_LANG", "en")
    monkeypatch.chdir(tmp_path)
    kept = Kept(tmp_path / "my runs" / "one", "scorecard-1", "bank", "anping")
    out = io.StringIO()
    Story(Console(file=out, width=60)).guide(kept, ".venv/bin/hejin")
    said = out.getvalue()
    assert "Everything lies in my runs/one" in said
    for _, command in commands(kept, ".venv/bin/hejin"):
        assert command in said.splitlines()[-1] or f"    {command}\n" in said
    assert shlex.split(commands(kept, "hejin")[0][1]) == [
        "hejin", "regulator", "verify", "my runs/one/ledgers",
    ]  # fmt: skip
