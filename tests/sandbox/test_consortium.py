"""How the sandbox reads what the members' processes say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from hejin_sandbox.consortium import DONE, FAILED, ROUND, approved, seconds_of_run, size_band
from hejin_sandbox.supervisor import LISTENING

_PLAN = "ab" * 32
# A process of its own: structlog keeps the stderr that it finds when it is set up.
_SCRIPT = f"""
import structlog
from hejin_trust.logs import log_to_stderr

log_to_stderr()
log = structlog.get_logger("bank")
log.info("answered", node="anping", plan="{_PLAN[:16]}", approved=True)
log.info("answered", node="gaoyang", plan="{_PLAN[:16]}", approved=False)
log.info("answered", node="ningjin", plan="cd" * 8, approved=True)
log.info("round", sum=3, of=7, statistic="gram")
{{end}}
"""


def _bank_says(end: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(end=end)], capture_output=True, text=True, check=True
    )
    return done.stderr


def test_a_nodes_approval_is_told_from_its_refusal_and_from_other_plans() -> None:
    assert approved(_bank_says(""), _PLAN) == {"anping"}


def test_rounds_and_the_end_are_read_from_the_banks_log() -> None:
    said = _bank_says('log.info("run-done", plan="x", run="r")')
    assert ROUND.findall(said) == ["3"]
    assert DONE.search(said)
    assert not FAILED.search(said)
    assert 0 <= seconds_of_run(said) < 5


def test_a_failure_is_read_from_the_banks_log() -> None:
    said = _bank_says('log.error("run-failed", plan="x", reason="1 of 5 nodes answered")')
    assert FAILED.search(said)
    assert not DONE.search(said)


def test_a_crash_of_the_banks_worker_is_a_failure() -> None:
    assert FAILED.search("noise\nException in thread worker:\nTraceback")


def test_the_time_of_a_run_is_that_between_its_first_round_and_its_end() -> None:
    said = "\n".join(
        [
            "timestamp=2026-11-22T20:51:30.500000Z level=info event=answered node=a",
            "timestamp=2026-11-22T20:51:33.000000Z level=info event=round sum=1 of=2 statistic=x",
            "timestamp=2026-11-22T20:51:34.000000Z level=info event=round sum=2 of=2 statistic=x",
            "timestamp=2026-11-22T20:51:36.250000Z level=info event=run-done plan=x run=r",
        ]
    )
    assert seconds_of_run(said) == 3.25


def test_a_servers_port_is_read_from_what_it_prints() -> None:
    found = LISTENING.search("noise\nlistening on 127.0.0.1:40213\n")
    assert found is not None
    assert found.group(1) == "127.0.0.1:40213"
    assert re.search(LISTENING, "listening on 0.0.0.0:1") is None


@pytest.mark.parametrize(
    ("enterprises", "band"), [(1, (1, 2)), (468, (400, 500)), (4000, (4000, 5000)), (99, (90, 100))]
)
def test_a_node_declares_its_size_to_one_digit(enterprises: int, band: tuple[int, int]) -> None:
    assert size_band(enterprises) == band
