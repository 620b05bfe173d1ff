"""Ask nodes in one phase of a round, and sort what they answer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import structlog

from hejin_coordinator.answers import Refused, read_refusal
from hejin_coordinator.errors import RunPausedError
from hejin_coordinator.parts import ANSWERED, NOT_NEEDED, SILENT
from hejin_privacy.secure_sum.errors import ShareWrongError
from hejin_trust.charter import Charter
from hejin_trust.errors import HejinError
from hejin_trust.fleet import Payload

_log = structlog.get_logger(__name__)

T = TypeVar("T")

COSIGNATURE_AWAITED: Final = "witness-unreachable"
"""Code of a node that gives nothing before the regulator has cosigned its reservation."""

NOT_NOW: Final = frozenset(
    {
        COSIGNATURE_AWAITED,
        "witness-refused",
        "clock-off",
        "clock-went-back",
        "frozen",
        "receipt-missing",
        "storage-failed",
        "file-error",
        "period-not-begun",
        "charter-replaced",
        "cosignature-stale",
    }
)
"""Codes of refusals that are no final word: the same question may get another answer later."""

Answers = Generator[tuple[str, Payload], bool | None, None]
"""Yields (node, answer); sent True, it asks that node the same once more and goes on."""


class Transport(Protocol):
    """What carries questions to nodes: the Flower engine, or memory in simulations."""

    def ask(
        self,
        requests: Mapping[str, Payload],
        *,
        timeout: float,
        reissue_after: float,
        enough: int | None = None,
    ) -> Answers:
        """Yield (node, answer) as answers come, until all are in or `timeout` seconds passed.

        reissue_after   seconds until a node that is silent, or was sent True for, is asked again
        enough          answers after which nodes that went away are not waited for
        """

    def online(self) -> set[str]:
        """Return the nodes that are there now."""


@dataclass(frozen=True, slots=True)
class Gathered(Generic[T]):
    """What came of one phase; `refused` also holds the answers that this bank refused.

    later      nodes whose last word was that they cannot answer now
    complete   whether the phase ended because enough was known: then nobody was late
    """

    answers: dict[str, T]
    refused: dict[str, Refused]
    later: dict[str, Refused]
    silent: frozenset[str]
    complete: bool

    @property
    def open(self) -> int:
        """Return the number of nodes that gave no final word: they may still answer."""
        return len(self.silent) + len(self.later)

    @property
    def outcomes(self) -> dict[str, str]:
        """Return node -> outcome, for the run report."""
        told = {**self.refused, **self.later}
        return {
            **dict.fromkeys(self.answers, ANSWERED),
            **{node: refusal.code for node, refusal in told.items()},
            **dict.fromkeys(self.silent, NOT_NEEDED if self.complete else SILENT),
        }

    @property
    def reasons(self) -> tuple[str, str]:
        """Return why nodes gave no answer, as the end of a sentence in English and Chinese."""
        told = {**self.refused, **self.later}
        waiting = sum(refusal.code == COSIGNATURE_AWAITED for refusal in self.later.values())
        en = f", {waiting} wait for the regulator's cosignature" if waiting else ""
        zh = f"，{waiting} 个在等待监管方会签" if waiting else ""
        for node, refusal in sorted(told.items()):
            # One sentence of the regulator's absence is enough for all that wait for it.
            if refusal.code != COSIGNATURE_AWAITED:
                en += f"; {node}: {refusal.text.en}"
                zh += f"；{node}：{refusal.text.zh}"
        return en, zh

    def paused(self, en: str, zh: str) -> RunPausedError:
        """Return what pauses a run: too few nodes answered, and enough others still may."""
        if self.later:
            return RunPausedError(
                f"{en}; the run goes on by itself once they can answer",
                f"{zh}；可应答后自动继续运行",
            )
        return RunPausedError(
            f"{en}; the run goes on when they are back", f"{zh}；待其恢复后继续运行"
        )


def gather(
    transport: Transport,
    requests: Mapping[str, Payload],
    read: Callable[[str, Payload], T],
    charter: Charter,
    *,
    deadline: float,
    reissue_after: float,
    enough: int,
    suffices: int | None = None,
) -> Gathered[T]:
    """Ask every node its own question, read what comes; who cannot answer now is asked again.

    read       returns what an answer holds; HejinError if it holds for nothing
    deadline   seconds for all of them
    enough     answers after which nodes that went away are not waited for
    suffices   answers after which nobody is waited for; None: everybody may answer
    """
    answers: dict[str, T] = {}
    refused: dict[str, Refused] = {}
    later: dict[str, Refused] = {}
    asking = transport.ask(requests, timeout=deadline, reissue_after=reissue_after, enough=enough)
    with closing(asking):
        arrived = next(asking, None)
        while arrived is not None:
            node, payload = arrived
            found = _read(node, payload, read, charter)
            if not isinstance(found, Refused):
                answers[node] = found
                later.pop(node, None)
            elif found.code in NOT_NOW:
                _tell(found, later)
                later[node] = found
            else:
                _tell(found, refused)
                refused[node] = found
                later.pop(node, None)
            if len(answers) == suffices:
                break
            arrived = _next(asking, again=node in later)
    silent = frozenset(requests) - answers.keys() - refused.keys() - later.keys()
    return Gathered(answers, refused, later, silent, len(answers) == suffices)


def _read(
    node: str, payload: Payload, read: Callable[[str, Payload], T], charter: Charter
) -> T | Refused:
    try:
        return read_refusal(payload, node, charter) or read(node, payload)
    except HejinError as reason:
        giver = reason.giver if isinstance(reason, ShareWrongError) else ""
        return Refused(node, reason.code, reason.text, giver)


def _next(asking: Answers, *, again: bool) -> tuple[str, Payload] | None:
    try:
        return asking.send(again)
    except StopIteration:
        return None


def _tell(found: Refused, known: Mapping[str, Refused]) -> None:
    """Log a refusal; one that is repeated, once."""
    if found.node not in known or known[found.node].code != found.code:
        _log.warning("not-taken", node=found.node, code=found.code)
