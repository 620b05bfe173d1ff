"""The story is readable in both languages, and on no terminal too."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from hejin_sandbox.story import Result, Story
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
    assert "监管端仅凭账本核验" in said
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
