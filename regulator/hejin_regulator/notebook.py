"""Collects what a verification finds, in bounded memory whatever an export holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from hejin_regulator.findings import Check, Finding, LogHead
from hejin_trust.export import LogName
from hejin_trust.text import Text

MOST_FINDINGS = 100_000
"""Kept one by one; what is beyond is counted, by check."""

MOST_WARNINGS = 1_000

Progress = Callable[[int], None]
"""Told how many bytes of the export were read since it was last told."""


def place(member: str, log: LogName, seq: int) -> str:
    """Return how a finding names an entry, such as `node-1/release.jsonl:17`."""
    return f"{member}/{log}.jsonl:{seq}"


class Notebook:
    """Findings, warnings and counts, as the checks come upon them.

    progress         told of every part of a log that was read
    newest_cosigned  the last time at which the regulator cosigned anything, RFC 3339
    """

    def __init__(self, progress: Progress = lambda _: None) -> None:
        self.warnings: list[Text] = []
        self.counts: Counter[str] = Counter()
        self.heads: list[LogHead] = []
        self.newest_cosigned = ""
        self.progress = progress
        self._findings: list[Finding] = []
        self._more: Counter[Check] = Counter()

    def add(
        self,
        check: Check,
        member: str,
        seq: int | None,
        en: str,
        zh: str,
        *,
        log: LogName = "release",
        evidence: Iterable[str] = (),
    ) -> None:
        """Note a finding.

        seq       the entry it is about, in the member's `log`; None if it is about none
        evidence  files and entries beside that one
        """
        if len(self._findings) >= MOST_FINDINGS:
            self._more[check] += 1
            return
        own = () if seq is None else (place(member, log, seq),)
        self._findings.append(Finding(check, member, seq, Text(en, zh), (*own, *evidence)))

    def add_text(
        self,
        check: Check,
        member: str,
        seq: int | None,
        reason: Text,
        *,
        log: LogName = "release",
        evidence: Iterable[str] = (),
    ) -> None:
        """Note a finding whose reason is an error's text."""
        self.add(check, member, seq, reason.en, reason.zh, log=log, evidence=evidence)

    def warn(self, en: str, zh: str) -> None:
        """Note what is no finding, and is to be known all the same."""
        if len(self.warnings) < MOST_WARNINGS:
            self.warnings.append(Text(en, zh))

    def findings(self) -> tuple[Finding, ...]:
        """Return all findings, and one for each check of which there were too many to keep."""
        beyond = (
            Finding(
                check,
                "*",
                None,
                Text(f"and {number} more findings of this check", f"另有该项检查的 {number} 处"),
            )
            for check, number in sorted(self._more.items())
        )
        return (*self._findings, *beyond)
