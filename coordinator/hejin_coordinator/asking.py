"""Ask nodes in one phase of a round, and sort what they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from hejin_coordinator.answers import Refused, read_refusal
from hejin_coordinator.parts import ANSWERED, NOT_NEEDED, SILENT
from hejin_privacy.secure_sum.errors import ShareWrongError
from hejin_trust.charter import Charter
from hejin_trust.errors import HejinError
from hejin_trust.fleet import Payload

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class Transport(Protocol):
    """What carries questions to nodes: the Flower engine, or memory in simulations."""

    def ask(
        self,
        requests: Mapping[str, Payload],
        *,
        timeout: float,
        reissue_after: float,
        enough: int | None = None,
    ) -> Iterator[tuple[str, Payload]]:
        """Yield (node, answer) as answers come, until all are in or `timeout` seconds passed.

        enough   answers after which nodes that went away are not waited for
        """

    def online(self) -> set[str]:
        """Return the nodes that are there now."""


@dataclass(frozen=True, slots=True)
class Gathered(Generic[T]):
    """What came of one phase; `refused` also holds the answers that this bank refused.

    complete   whether the phase ended because enough was known: then nobody was late
    """

    answers: dict[str, T]
    refused: dict[str, Refused]
    silent: frozenset[str]
    complete: bool

    @property
    def outcomes(self) -> dict[str, str]:
        """Return node -> outcome, for the run report."""
        return {
            **dict.fromkeys(self.answers, ANSWERED),
            **{node: refusal.code for node, refusal in self.refused.items()},
            **dict.fromkeys(self.silent, NOT_NEEDED if self.complete else SILENT),
        }

    @property
    def reasons(self) -> tuple[str, str]:
        """Return why nodes refused, as the end of a sentence in English and Chinese."""
        told = [(node, found.text) for node, found in sorted(self.refused.items())]
        return (
            "".join(f"; {node}: {text.en}" for node, text in told),
            "".join(f"；{node}：{text.zh}" for node, text in told),
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
    """Ask every node its own question, read what comes.

    read       returns what an answer holds; HejinError if it holds for nothing
    deadline   seconds for all of them
    enough     answers after which nodes that went away are not waited for
    suffices   answers after which nobody is waited for; None: everybody may answer
    """
    answers: dict[str, T] = {}
    refused: dict[str, Refused] = {}
    for node, payload in transport.ask(
        requests, timeout=deadline, reissue_after=reissue_after, enough=enough
    ):
        try:
            refusal = read_refusal(payload, node, charter)
            if refusal is None:
                answers[node] = read(node, payload)
            else:
                refused[node] = refusal
        except HejinError as reason:
            giver = reason.giver if isinstance(reason, ShareWrongError) else ""
            refused[node] = Refused(node, reason.code, reason.text, giver)
        if node in refused:
            _log.warning("not-taken", node=node, code=refused[node].code)
        if len(answers) == suffices:
            break
    silent = frozenset(requests) - answers.keys() - refused.keys()
    return Gathered(answers, refused, silent, len(answers) == suffices)
