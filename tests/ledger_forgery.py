"""Someone with one member's keys rewrites what that member exports: entries, notes, papers.

Whatever is signed by the member is signed anew. What the regulator has cosigned, and what other
members hold, stays as it was.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Any

from export_damage import Damage, Export
from ledger_papers import CONSORTIUM, VIEW

from hejin_trust.canonical import encode, fraction_body, time_from, time_text
from hejin_trust.checkpoint import sign_checkpoint, sign_note, split_note
from hejin_trust.envelope import open_envelope, seal
from hejin_trust.merkle import leaf_hash, root_of
from hejin_trust.origins import internal_origin, release_origin

Entry = dict[str, Any]
LOGS = ("release", "internal")


@dataclass(frozen=True)
class Forgery:
    """What was done with a member's keys.

    log       the log that was rewritten; "" if none was
    harmless  why nothing that is claimed changes; "" if something does
    """

    member: str
    way: str
    damage: Damage
    log: str = ""
    harmless: str = ""


def other_value(value: object, dice: random.Random) -> Any:
    """Return another value of the same kind, such as its owner might like better."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + dice.choice((-1, 1, 2)) if value else dice.choice((1, 3))
    if isinstance(value, dict):
        if value.keys() == {"num", "den"}:
            told = Fraction(int(value["num"]), int(value["den"]))
            factors = (Fraction(1, 2), Fraction(99, 100), Fraction(2), Fraction(0))
            changed = told * dice.choice(factors) if told else Fraction(1, 8)
            return fraction_body(changed)
        key = dice.choice(sorted(value))
        return {**value, key: other_value(value[key], dice)}
    if isinstance(value, list):
        return _other_list(value, dice)
    assert isinstance(value, str)
    return _other_text(value, dice)


def _other_list(value: list[Any], dice: random.Random) -> list[Any]:
    if len(value) > 1 and dice.random() < 0.7:
        return value[:-1] if dice.random() < 0.5 else value[::-1]
    return [*value, "nobody"]


def _other_text(value: str, dice: random.Random) -> str:
    if len(value) in (32, 64) and not set(value) - set("0123456789abcdef"):
        at = dice.randrange(len(value))
        digit = dice.choice([d for d in "0123456789abcdef" if d != value[at]])
        return value[:at] + digit + value[at + 1 :]
    if len(value) == 20 and value.endswith("Z"):
        moment = time_from(value)
        return time_text(moment.replace(year=moment.year + dice.choice((-1, 1))))
    if value in ("train", "holdout"):
        return "holdout" if value == "train" else "train"
    return value + "x" if value else "x"


class Forger:
    """Makes forgeries of an honest export with the keys of one member at a time."""

    def __init__(self, export: Export, seed: int) -> None:
        self._export, self._dice = export, random.Random(seed)
        self._world = export.consortium

    def forgeries(self, number: int) -> Iterator[Forgery]:
        """Yield `number` forgeries, of every kind about as many."""
        node = (self.entries, self.entries, self.entries, self.order, self.times, self.note)
        bank = (self.papers, self.papers, self.papers, self.votes)
        members = sorted(self._world.parties)
        made = 0
        while made < number:
            member = self._dice.choice([*members, "bank", "bank"])
            ways: tuple[Callable[[str], Forgery | None], ...] = node
            if member == "bank":
                ways = (*node, *bank)
            forged = self._dice.choice(ways)(member)
            if forged is not None and any(
                self._export.files.get(name) != data for name, data in forged.damage.files.items()
            ):
                made += 1
                yield forged

    # -- logs ----------------------------------------------------------------------------

    def read(self, member: str, log: str) -> list[Entry]:
        data = self._export.files[f"{member}/{log}.jsonl"]
        return [json.loads(line) for line in data.splitlines()]

    def write(self, member: str, log: str, entries: list[Entry], *, renumber: bool) -> Damage:
        """Return a log that the member has signed anew."""
        if renumber:
            entries = [{**entry, "seq": seq} for seq, entry in enumerate(entries)]
        leaves = [encode(entry) for entry in entries]
        party = self._world.parties[member]
        origin = release_origin if log == "release" else internal_origin
        root = root_of([leaf_hash(leaf) for leaf in leaves])
        name = origin(CONSORTIUM, party.member.role, member)
        note = sign_checkpoint(name, len(leaves), root, party.keys.log)
        files: dict[str, bytes | None] = {
            f"{member}/{log}.jsonl": b"".join(leaf + b"\n" for leaf in leaves),
            f"{member}/{log}.checkpoint": note.encode(),
        }
        return Damage(f"{member} {log}", files)

    def _log(self, member: str) -> tuple[str, list[Entry]]:
        logs = [log for log in LOGS if len(self.read(member, log)) > 2]
        log = self._dice.choice(logs)
        return log, self.read(member, log)

    def entries(self, member: str) -> Forgery:
        """Change one value of one entry, or exchange two receipts."""
        log, entries = self._log(member)
        receipts = [entry for entry in entries if entry["type"] == "receipt"]
        if receipts and self._dice.random() < 0.2:
            one, other = self._dice.sample(receipts, 2)
            one["body"], other["body"] = other["body"], one["body"]
            way = "receipts swapped"
        else:
            entry = self._dice.choice(entries)
            field = self._dice.choice([*sorted(entry["body"]), "salt"])
            of = entry if field == "salt" else entry["body"]
            of[field] = other_value(of[field], self._dice)
            way = f"{entry['type']}.{field}"
        return Forgery(member, way, self.write(member, log, entries, renumber=False), log)

    def order(self, member: str) -> Forgery:
        """Drop, double, exchange, move or add entries, or leave out the end."""
        log, entries = self._log(member)
        i, j = sorted(self._dice.sample(range(len(entries)), 2))
        ways: dict[str, list[Entry]] = {
            "drop": entries[:i] + entries[i + 1 :],
            "double": entries[: i + 1] + entries[i:],
            "exchange": [
                *entries[:i], entries[j], *entries[i + 1 : j], entries[i], *entries[j + 1 :]
            ],
            "move": entries[:i] + entries[i + 1 : j + 1] + [entries[i]] + entries[j + 1 :],
            "cut": entries[: max(i, 1)],
            "add": [*entries, entries[i]],
            "rewrite": entries[:i] + [
                {**entry, "salt": "0" * 32} for entry in entries[i:]
            ],
        }  # fmt: skip
        way = self._dice.choice(sorted(ways))
        renumber = self._dice.random() < 0.8
        damage = self.write(member, log, ways[way], renumber=renumber)
        return Forgery(member, way, damage, log)

    def times(self, member: str) -> Forgery:
        """Move the times of one entry, or of all from one on."""
        log, entries = self._log(member)
        start = self._dice.randrange(len(entries))
        seconds = self._dice.choice((-3600, -1, 1, 60, 3600))
        some = entries[start:] if self._dice.random() < 0.6 else entries[start : start + 1]
        for entry in some:
            entry["time"] = time_text(time_from(entry["time"]) + timedelta(seconds=seconds))
        return Forgery(member, "times", self.write(member, log, entries, renumber=False), log)

    def note(self, member: str) -> Forgery:
        """Sign the log's checkpoint again: as it was, with more text, or of something else."""
        log = self._dice.choice(LOGS)
        name = f"{member}/{log}.checkpoint"
        party = self._world.parties[member]
        text, _ = split_note(self._export.files[name].decode())
        origin, size, root, *_ = text.split("\n")
        way = self._dice.choice(("more text", "another size", "another root"))
        if way == "more text":
            text = f"{text}{self._dice.randrange(1000)} extension\n"
        elif way == "another size":
            text = f"{origin}\n{int(size) - 1}\n{root}\n"
        else:
            other = base64.b64encode(self._dice.randbytes(32)).decode()
            text = f"{origin}\n{size}\n{other}\n"
        signed = sign_note(text, origin, party.keys.log)
        harmless = "a note may say more than a tree head" if way == "more text" else ""
        return Forgery(member, way, Damage(way, {name: signed.encode()}), log, harmless)

    # -- papers of the bank --------------------------------------------------------------

    def rows(self, name: str) -> list[Entry]:
        return [json.loads(line) for line in self._export.files[f"bank/{name}.jsonl"].splitlines()]

    def _rows(self, way: str, name: str, rows: list[Entry], harmless: str = "") -> Forgery:
        data = b"".join(encode(row) + b"\n" for row in rows)
        return Forgery("bank", way, Damage(way, {f"bank/{name}.jsonl": data}), "", harmless)

    def resign(self, envelope: bytes, *, nothing: bool = False) -> bytes:
        """Return a document of the bank's with another value, or with none, signed anew."""
        outer = json.loads(envelope)
        keys = self._world.bank.keys.identity
        body = open_envelope(envelope, outer["payloadType"], keys.public, "bank").body
        if not nothing:
            field = self._dice.choice(sorted(body.keys() - {"v"}))
            body[field] = other_value(body[field], self._dice)
        return seal(outer["payloadType"], body, keys, "bank")

    def papers(self, member: str) -> Forgery | None:
        """Replace a plan, a view, a query or a survivor set by one that the bank signs as well."""
        way = self._dice.choice(("plan", "view", "query", "survivors", "signed again"))
        if way == "plan":
            name = f"bank/documents/{self._world.digest}.json"
            return Forgery(member, way, Damage(way, {name: self.resign(self._export.files[name])}))
        if way == "view":
            name = next(name for name in self._export.files if name.endswith(".view"))
            data = VIEW.replace(b"cells = 14", b"cells = 15")
            return Forgery(member, way, Damage(way, {name: data}))
        rows = self.rows("rounds")
        row = self._dice.choice(rows)
        field = "query" if way != "survivors" else "survivors"
        if not row[field]:
            return None
        old = base64.b64decode(row[field])
        signed = self.resign(old, nothing=way == "signed again")
        if signed == old:
            return None  # Ed25519 signs the same the same way: nothing to tell apart
        row[field] = base64.b64encode(signed).decode()
        return self._rows(way, "rounds", rows)

    def votes(self, member: str) -> Forgery | None:
        """Exchange, drop or double votes, rounds, or what proves a roster."""
        name = self._dice.choice(("rounds", "rounds", "rosters"))
        rows = self.rows(name)
        field = "votes" if name == "rounds" else self._dice.choice(("keyads", "certificates"))
        with_some = [row for row in rows if row[field]]
        if not with_some:
            return None
        row = self._dice.choice(with_some)
        found = row[field]
        way = self._dice.choice(("exchange", "drop", "double", "elsewhere", "row dropped"))
        if way == "exchange":
            row[field] = found[::-1]
        elif way == "drop":
            row[field] = found[:-1]
        elif way == "double":
            row[field] = [found[0], *found]
        elif way == "elsewhere":
            row[field] = self._dice.choice(with_some)[field]
        else:
            rows.remove(row)
        return self._rows(f"{field} {way}", name, rows)
