"""Run and round contexts against the design's formulas, spelt out byte by byte."""

from __future__ import annotations

import hashlib

import pytest

from hejin_privacy.round_context import round_context, run_context

RUN, PLAN = "0f" * 16, "ab" * 32


def test_run_context_known_answer_without_a_roster() -> None:
    body = f'{{"m":0,"plan":"{PLAN}","roster":[],"run":"{RUN}","tau":0}}'.encode()
    kind = b"hejin/secure-sum/v1/run-ctx"
    message = b"DSSEv1 27 " + kind + b" " + str(len(body)).encode() + b" " + body
    assert run_context(RUN, PLAN) == hashlib.sha256(message).digest()


def test_every_part_of_the_set_up_changes_the_run_context() -> None:
    roster = [("a", "00" * 32), ("b", "01" * 32)]
    made = [
        run_context(RUN, PLAN),
        run_context("0e" * 16, PLAN),
        run_context(RUN, "ac" * 32),
        run_context(RUN, PLAN, tau=2, m=2, roster=roster),
        run_context(RUN, PLAN, tau=2, m=1, roster=roster),
        run_context(RUN, PLAN, tau=2, m=2, roster=roster[:1]),
    ]
    assert len(set(made)) == len(made)


def test_round_context_known_answer() -> None:
    message = b"hejin/secure-sum/v1/round" + b"\x11" * 32 + b"\x00\x00\x01\x02" + b"\x22" * 32
    assert round_context(b"\x11" * 32, 258, b"\x22" * 32) == hashlib.sha256(message).digest()


@pytest.mark.parametrize(
    ("run_ctx", "number", "query"),
    [
        pytest.param(b"\x11" * 31, 1, b"\x22" * 32, id="short-run-context"),
        pytest.param(b"\x11" * 32, 1, b"\x22" * 33, id="long-query-hash"),
        pytest.param(b"\x11" * 32, -1, b"\x22" * 32, id="negative-round"),
        pytest.param(b"\x11" * 32, 2**32, b"\x22" * 32, id="round-beyond-u32"),
    ],
)
def test_other_lengths_and_rounds_are_refused(run_ctx: bytes, number: int, query: bytes) -> None:
    with pytest.raises(ValueError):
        round_context(run_ctx, number, query)
