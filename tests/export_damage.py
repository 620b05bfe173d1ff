"""Someone without keys damages an export: every class of bytes, lines and files, by a seed.

A class is a place whose meaning is one: the digits of `rho` in a `reserve` entry, the key id of a
checkpoint's signature, the punctuation of a plan's envelope. Every class is damaged at least once.
"""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ledger_world import Consortium

from hejin_regulator.findings import Verification
from hejin_trust.certificates import fingerprint
from hejin_trust.errors import HejinError

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+|[{}\[\],:]')
_DIGITS, _HEX = b"0123456789", b"0123456789abcdef"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@dataclass(frozen=True)
class Place:
    """Bytes `start`..`end` of a file that belong to one class."""

    file: str
    start: int
    end: int


@dataclass(frozen=True)
class Damage:
    """New contents by file name; None: the file is gone."""

    what: str
    files: dict[str, bytes | None]


@dataclass
class Export:
    """The honest bytes of an export, and which class each of them is in."""

    consortium: Consortium
    files: dict[str, bytes]
    classes: dict[str, list[Place]] = field(default_factory=dict)

    @classmethod
    def of(cls, consortium: Consortium) -> Export:
        folder = consortium.folder
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        export = cls(consortium, files)
        for name, data in files.items():
            for kind, start, end in _classes(name, data):
                export.classes.setdefault(kind, []).append(Place(name, start, end))
        return export

    @property
    def logs(self) -> list[str]:
        ends = ("/release.jsonl", "/internal.jsonl")
        return [name for name in self.files if name.endswith(ends)]

    @property
    def rows(self) -> list[str]:
        """Files of lines: logs, cosigned notes, rounds and rosters."""
        return [name for name in self.files if name.endswith(".jsonl")]

    def verify(self, damage: Damage) -> Verification | HejinError:
        """Return what verification says of the damaged export; it is whole again afterwards."""
        folder = self.consortium.folder
        try:
            for name, data in damage.files.items():
                _put(folder / name, data)
            return self.consortium.verify()
        except HejinError as refusal:
            return refusal
        finally:
            for name in damage.files:
                _put(folder / name, self.files.get(name))


def _put(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


# -- classes of bytes --------------------------------------------------------------------


def _classes(name: str, data: bytes) -> Iterator[tuple[str, int, int]]:
    stem = Path(name).stem
    if name.startswith("witness/"):
        yield from _note_spans("witness", data)
    elif name.endswith(".cosigned.jsonl"):
        yield from _note_spans("kept", data)
    elif name.endswith(".jsonl"):
        yield from _entries(stem, data)
    elif name.endswith(".checkpoint"):
        yield from _checkpoint_spans(data)
    elif name.endswith(".view"):
        yield "view text", 0, len(data)
    else:
        for where, begin, end in json_spans(data):
            yield f"{kind_of(name)} envelope {where}", begin, end


def kind_of(name: str) -> str:
    """Return what a JSON document is: charter, certificates, plan or recovery."""
    folder, _, file = name.rpartition("/")
    if folder in ("", "charters"):
        return "certificates" if file == "certificates.json" else "charter"
    return "plan" if folder == "bank/documents" else "recovery"


def _entries(stem: str, data: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield the classes of a log's entries, or of a file of rounds or rosters."""
    start = 0
    for line in data.splitlines(keepends=True):
        kind = f"{stem} {json.loads(line)['type']}" if stem in ("release", "internal") else stem
        for where, begin, end in json_spans(line):
            yield f"{kind} {where}", start + begin, start + end
        yield f"{stem} line end", start + len(line) - 1, start + len(line)
        start += len(line)


def _note_spans(of: str, data: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield the classes of cosigned notes, each a JSON string: its lines, by what they say."""
    start = 0
    for line in data.splitlines(keepends=True):
        at = start
        parts = ("origin", "size", "root", "blank", "signature", "cosignature", "quote")
        for kind, part in zip(parts, line.rstrip(b"\n").split(b"\\n"), strict=True):
            yield f"{of} {kind}", at, at + max(len(part), 1)
            at += len(part) + 2
        start += len(line)


def json_spans(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield (class, start, end) for every token of one JSON object."""
    path: list[str | None] = []  # the key in each open object; None in an array
    naming = False
    for token in _TOKEN.finditer(data):
        word, where = token[0], (token.start(), token.end())
        if word in b"{[":
            path.append("" if word == b"{" else None)
            naming = word == b"{"
            yield "punctuation", *where
        elif word in b"}]":
            path.pop()
            yield "punctuation", *where
        elif word in b",:":
            naming = word == b"," and path[-1] is not None
            yield "punctuation", *where
        elif naming:
            path[-1] = json.loads(word)
            yield "name", *where
        else:
            yield ".".join(key for key in path if key), *where


def _checkpoint_spans(data: bytes) -> Iterator[tuple[str, int, int]]:
    origin, size, root, _, signature = data.splitlines(keepends=True)
    start = 0
    for kind, line in (("origin", origin), ("size", size), ("root", root)):
        yield f"checkpoint {kind}", start, start + len(line) - 1
        yield "checkpoint line end", start + len(line) - 1, start + len(line)
        start += len(line)
    yield "checkpoint blank line", start, start + 1
    start += 1
    dash, name, _ = signature.split(b" ")
    places = {"dash": len(dash), "name": len(name), "key id": 5, "signature": 91}
    for kind, length in places.items():  # 4 + 64 bytes are 92 characters of base64
        yield f"checkpoint signer {kind}", start, start + length
        start += length + (kind in ("dash", "name"))
    yield "checkpoint line end", len(data) - 1, len(data)


# -- damage ------------------------------------------------------------------------------


def damaged_byte(export: Export, kind: str, dice: random.Random) -> Damage:
    """Damage one byte of a class: flipped, retyped as its like, dropped, doubled, or cut off."""
    place = dice.choice(export.classes[kind])
    data = export.files[place.file]
    at = dice.randrange(place.start, place.end)
    how = dice.choice(("flip", "retype", "retype", "drop", "double", "insert", "cut"))
    old = data[at]
    if how == "flip":
        new = data[:at] + bytes([old ^ 1 << dice.randrange(8)]) + data[at + 1 :]
    elif how == "retype":
        alphabet = next((a for a in (_DIGITS, _HEX, _BASE64) if old in a), b" ~")
        other = dice.choice([byte for byte in alphabet if byte != old])
        new = data[:at] + bytes([other]) + data[at + 1 :]
    elif how == "drop":
        new = data[:at] + data[at + 1 :]
    elif how == "double":
        new = data[: at + 1] + data[at:]
    elif how == "insert":
        new = data[:at] + dice.randbytes(1) + data[at:]
    else:
        new = data[:at]
    return Damage(f"{how} byte {at} of {place.file} ({kind})", {place.file: new})


def damaged_payload(export: Export, file: str, at: str, dice: random.Random) -> Damage:
    """Change a value inside a signed document and wrap it again, without the key to sign it.

    at  "": the file is the envelope; else the line number of a receipt entry that holds it
    """
    data = export.files[file]
    lines = data.splitlines(keepends=True)
    entry = json.loads(lines[int(at)]) if at else {}
    envelope = base64.b64decode(entry["body"]["receipt"]) if at else data
    outer = json.loads(envelope)
    payload = base64.b64decode(outer["payload"])
    spans = list(json_spans(payload))
    kind, start, end = dice.choice([s for s in spans if s[0] not in ("name", "punctuation")])
    position = dice.randrange(start, end)
    other = dice.choice([b for b in _HEX if b != payload[position]])
    payload = payload[:position] + bytes([other]) + payload[position + 1 :]
    outer["payload"] = base64.b64encode(payload).decode()
    envelope = json.dumps(outer, sort_keys=True, separators=(",", ":")).encode()
    if at:
        entry["body"]["receipt"] = base64.b64encode(envelope).decode()
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        envelope = b"".join((*lines[: int(at)], text.encode() + b"\n", *lines[int(at) + 1 :]))
    return Damage(f"{kind} inside the document in {file} {at}", {file: envelope})


def damaged_lines(export: Export, dice: random.Random) -> Damage:
    """Drop, repeat, swap, move, cut or exchange whole lines of a file."""
    file = dice.choice([name for name in export.rows if export.files[name].count(b"\n") > 1])
    lines = export.files[file].splitlines(keepends=True)
    i, j = sorted(dice.sample(range(len(lines)), 2))
    how = dice.choice(("drop", "repeat", "swap", "move", "cut", "foreign", "append", "blank"))
    other = dice.choice([name for name in export.rows if name != file])
    theirs = export.files[other].splitlines(keepends=True)
    new = {
        "drop": lines[:i] + lines[i + 1 :],
        "repeat": lines[: i + 1] + lines[i:],
        "swap": [*lines[:i], lines[j], *lines[i + 1 : j], lines[i], *lines[j + 1 :]],
        "move": lines[:i] + lines[i + 1 : j + 1] + [lines[i]] + lines[j + 1 :],
        "cut": lines[:i],
        "foreign": [*lines[:i], theirs[min(i, len(theirs) - 1)], *lines[i + 1 :]],
        "append": [*lines, dice.choice(theirs)],
        "blank": [*lines[:i], b"\n", *lines[i:]],
    }[how]
    return Damage(f"{how} entries {i} and {j} of {file} ({other})", {file: b"".join(new)})


def damaged_files(export: Export, dice: random.Random) -> Damage:
    """Drop, empty or exchange whole files: between logs of one member, or between members."""
    how = dice.choice(("drop", "empty", "exchange", "exchange", "replace"))
    file = dice.choice(list(export.files))
    if how == "drop":
        return Damage(f"no {file}", {file: None})
    if how == "empty":
        return Damage(f"{file} empty", {file: b""})
    other = dice.choice([name for name in export.files if name != file])
    if how == "replace":
        return Damage(f"{file} replaced by {other}", {file: export.files[other]})
    return Damage(
        f"{file} and {other} exchanged", {file: export.files[other], other: export.files[file]}
    )


def damages(export: Export, number: int, seed: int) -> Iterator[Damage]:
    """Yield `number` damages; if there are enough of them, every class of bytes is among them."""
    dice = random.Random(seed)
    kinds = sorted(export.classes)
    dice.shuffle(kinds)
    receipts = [
        (name, str(line))
        for name in export.logs
        for line, entry in enumerate(export.files[name].splitlines())
        if json.loads(entry)["type"] == "receipt"
    ]
    signed = [(name, "") for name in export.files if name.endswith(".json")]
    assert len(signed) == 6  # charters, list of certificates, plan, recovery
    made = 0
    while made < number:
        if made < len(kinds):
            damage = damaged_byte(export, kinds[made], dice)
        else:
            way = dice.choice(("byte", "payload", "lines", "lines", "files"))
            if way == "byte":
                damage = damaged_byte(export, dice.choice(kinds), dice)
            elif way == "payload":
                damage = damaged_payload(
                    export, *dice.choice(dice.choice((receipts, signed))), dice
                )
            elif way == "lines":
                damage = damaged_lines(export, dice)
            else:
                damage = damaged_files(export, dice)
        if any(export.files[name] != data for name, data in damage.files.items()):
            made += 1
            yield damage


# -- judgement ---------------------------------------------------------------------------


def judge(export: Export, damage: Damage) -> None:
    """Raise AssertionError unless the damage is found, and named as exactly as can be known.

    charter in force    nothing can be verified without it: refused as a whole
    earlier charters    V1 names the regulator; the list of certificates: V7 does
    entries of a log    V1 names the member and the first entry that is not what it should be.
                        An altered entry that is well-formed in itself is named by its log: the
                        root tells that something below the checkpoint changed, not which entry
    checkpoint          V1 names the member
    cosigned notes      V2 names the member, or V2 or V3 the regulator whose file it is. What the
                        member kept of them says as much: of one part nothing need be missed
    plan, view          V7 names the bank, and every reservation that rests on the plan
    recovery            V1 names the member
    rounds, rosters     V6 names the bank. A certificate is the same certificate however its PEM
                        text is laid out: then nothing that is claimed changes
    """
    found = export.verify(damage)
    changed = {n: d for n, d in damage.files.items() if d != export.files.get(n)}
    if isinstance(found, HejinError):
        assert "charter.json" in changed, f"{damage.what}: {found}"
        assert found.exit_code == 1, damage.what
        assert "charter" in found.text.en, damage.what
        assert "章程" in found.text.zh or "charter.json" in found.text.zh, damage.what
        return
    if found.ok and all(_harmless(export, name, data) for name, data in changed.items()):
        same(found, export.consortium.verify())
        return
    assert not found.ok, f"{damage.what}: not found"
    assert "charter.json" not in changed, f"{damage.what}: verified under a damaged charter"
    for finding in found.findings:
        assert finding.member, damage.what
        assert finding.reason.en, damage.what
        assert finding.reason.zh, damage.what
    named = {(finding.check, finding.member) for finding in found.findings}
    damaged_logs: dict[tuple[str, str], set[int | None]] = {}
    for name, data in changed.items():
        member, _, rest = name.rpartition("/")
        member = member.partition("/")[0]
        stem, _, end = rest.partition(".")
        if end == "cosigned.jsonl":
            assert ("V2", member) in named, damage.what
        elif member == "witness":
            assert named & {("V2", stem), ("V2", "regulator"), ("V3", "regulator")}, damage.what
        elif end == "view" or (end == "json" and kind_of(name) == "plan"):
            assert ("V7", member) in named, damage.what
            assert any(f.seq is not None for f in found.findings), damage.what
        elif end == "json":
            blamed = {
                "charter": ("V1", "regulator"),
                "certificates": ("V7", "regulator"),
                "recovery": ("V1", member),
            }[kind_of(name)]
            assert blamed in named, damage.what
        elif stem in ("rounds", "rosters"):
            assert ("V6", member) in named, damage.what
        else:
            seqs = damaged_logs.setdefault((member, stem), {None})
            if end == "jsonl":
                first = _first_difference(export.files[name], data or b"")
                seqs |= {first, first + 1}  # an entry that is too late shows at the next one
    for (member, log), seqs in damaged_logs.items():
        assert any(
            (f.check, f.member) == ("V1", member)
            and f.seq in seqs
            and f.reason.en.startswith(f"{log} log")
            and f.reason.zh.startswith(f"{log} 日志")
            for f in found.findings
        ), f"{damage.what}: V1 of {member} {log} {seqs} not in {found.findings[:9]}"


def same(found: object, honest: Verification) -> None:
    """Raise unless nothing was found and nothing that is claimed differs."""
    assert isinstance(found, Verification)
    assert found.ok
    assert replace(found, checked_at=honest.checked_at) == honest


def _harmless(export: Export, name: str, data: bytes | None) -> bool:
    """Return whether notes were left out, or certificates laid out as another text."""
    lines, old = (data or b"").splitlines(), iter(export.files[name].splitlines())
    if name.endswith(".cosigned.jsonl"):
        return True  # the regulator's own part says as much
    if name.startswith("witness/"):
        return all(line in old for line in lines)  # `in` goes on from the last one found
    if name != "bank/rosters.jsonl":
        return False
    rows = [[json.loads(line) for line in some] for some in (lines, old)]
    for row in (*rows[0], *rows[1]):
        row["certificates"] = [fingerprint(base64.b64decode(text)) for text in row["certificates"]]
    return rows[0] == rows[1]


def _first_difference(old: bytes, new: bytes) -> int:
    """Return the number of the first entry that differs."""
    pairs = zip(old.split(b"\n"), new.split(b"\n"), strict=False)
    return next(
        (number for number, (one, other) in enumerate(pairs) if one != other),
        min(old.count(b"\n"), new.count(b"\n")),
    )
