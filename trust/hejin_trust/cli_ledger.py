"""The `hejin ledger` commands: read a member's ledger, prove from it, seal parts of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import click
import typer
from rich.table import Table

from hejin_trust.commands import group, says, wrong_usage
from hejin_trust.listing import print_table
from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_trust.archive import Archived
    from hejin_trust.charter import Charter
    from hejin_trust.entries import Entry
    from hejin_trust.export import LogName
    from hejin_trust.heads import Head
    from hejin_trust.ledger import Row

app = group(
    Text(
        "A member's ledger: read it, prove entries, seal and archive parts.",
        "成员的账本：查看、出具证明、封存与归档。",
    )
)

_LOGS = click.Choice(["release", "internal"])
_SHOWN = 20

Home = Annotated[
    Path,
    typer.Option("--home", envvar="HEJIN_HOME", file_okay=False),
    Text("A node's or bank's folder.", "节点或银行的目录。"),
]
AsJson = Annotated[
    bool,
    typer.Option("--json"),
    Text("Print JSON, one object a line.", "输出 JSON，每行一个对象。"),
]
OneLog = Annotated[
    str,
    typer.Option("--log", click_type=_LOGS),
    Text("Which of its two logs.", "两个日志中的哪一个。"),
]
AnyLog = Annotated[
    str | None,
    typer.Option("--log", click_type=_LOGS),
    Text("One of its two logs; default both.", "两个日志之一；默认两者。"),
]
Seq = Annotated[
    int,
    typer.Argument(min=0),
    Text("Number of the entry in its log, from 0.", "条目在日志中的编号，从 0 起。"),
]


@app.command()
@says("显示账本内容：完整显示 SEQ，或列出最新条目。")
def show(
    home: Home,
    seq: Annotated[
        int | None,
        typer.Argument(min=0),
        Text("One entry, in full; else a table of them.", "完整显示一个条目；不给出则列表。"),
    ] = None,
    log: OneLog = "release",
    kind: Annotated[
        str | None,
        typer.Option("--type"),
        Text("Only entries of this type, such as reserve.", "仅该类型的条目，例如 reserve。"),
    ] = None,
    start: Annotated[
        int, typer.Option("--from", min=0), Text("Only from this entry on.", "仅自该条目起。")
    ] = 0,
    last: Annotated[
        int | None,
        typer.Option(min=1),
        Text(
            f"The newest N; default {_SHOWN}, or all with --from.",
            f"最新的 N 条；默认 {_SHOWN} 条，有 --from 时为全部。",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the ledger says: SEQ in full, or the newest entries as a table."""
    from hejin_trust.database import reading
    from hejin_trust.entries import ENTRY_TYPES
    from hejin_trust.ledger import entry_at, open_ledger, rows

    if kind is not None and kind not in ENTRY_TYPES:
        raise wrong_usage(
            f"--type is one of {', '.join(ENTRY_TYPES)}",
            f"--type 应为以下之一：{'、'.join(ENTRY_TYPES)}",
        )
    with open_ledger(home) as ledger, reading(ledger.engine) as connection:
        chosen = ledger.log(cast("LogName", log))
        if seq is not None:
            _show_one(entry_at(connection, chosen, seq), as_json)
            return
        if last is None and start == 0:
            last = _SHOWN
        found = rows(connection, chosen, kind=kind, start=start, last=last)
        if as_json:
            for row in found:
                typer.echo(_line(row))
            return
        print_table(_table(list(found)))


def _show_one(entry: Entry, as_json: bool) -> None:
    from hejin_trust.entry_words import TYPES, words

    if as_json:
        typer.echo(entry.raw.decode())
        return
    typer.echo(_visible(f"{entry.seq}  {entry.time}  {entry.by}  {TYPES[entry.type]}"))
    typer.echo(_visible(str(words(entry))))
    # What a peer wrote may hold anything but line breaks; each line of it is cleaned by itself.
    for line in json.dumps(json.loads(entry.raw), ensure_ascii=False, indent=2).split("\n"):
        typer.echo(_visible(line))


def _line(row: Row) -> str:
    if row.entry is not None:
        return row.entry.raw.decode()
    return json.dumps({"seq": row.seq, "type": row.type, "time": row.time, "archived": True})


def _table(found: Sequence[Row]) -> Table:
    from hejin_trust.entry_words import TYPES, words

    headings = (
        Text("entry", "条目"),
        Text("time", "时间"),
        Text("what", "事项"),
        Text("details", "内容"),
    )
    table = Table()
    for heading in headings:
        table.add_column(str(heading), overflow="fold")  # Chinese has no spaces to break at
    archived = Text("in an archive: `show` it by its number", "已归档：按编号查看")
    for row in found:
        said = archived if row.entry is None else words(row.entry)
        what = TYPES.get(row.type, Text(row.type, row.type))
        cells = (str(row.seq), row.time, str(what), str(said))
        table.add_row(*map(_visible, cells))
    return table


@app.command()
@says("证明条目确在账本中：含条目本身的 C2SP tlog-proof。")
def prove(
    home: Home,
    seq: Seq,
    log: OneLog = "release",
    out: Annotated[
        Path | None,
        typer.Option(),
        Text("Write the proof there instead of printing it.", "把证明写入该文件，而不是打印。"),
    ] = None,
) -> None:
    """Prove that an entry is in the ledger: a C2SP tlog-proof that holds the entry itself."""
    from hejin_trust.database import reading
    from hejin_trust.files import replace_file
    from hejin_trust.ledger import open_ledger
    from hejin_trust.ledger import prove as proof_of

    with open_ledger(home) as ledger, reading(ledger.engine) as connection:
        proof = proof_of(connection, ledger.log(cast("LogName", log)), seq)
    if out is None:
        typer.echo(proof.text, nl=False)
    else:
        replace_file(out, proof.text.encode())
    said = Text(
        f"entry {seq} is proven against the checkpoint of {proof.size} entries that the regulator"
        " has cosigned",
        f"条目 {seq} 已相对监管方见证过的 {proof.size} 条检查点予以证明",
    )
    if not proof.witnessed:
        said = Text(
            f"entry {seq} is proven against the member's own checkpoint of {proof.size} entries"
            " only: the regulator has not cosigned it yet, and `check` refuses it; prove it again"
            " later",
            f"条目 {seq} 仅相对成员自己的 {proof.size} 条检查点予以证明：监管方尚未见证，"
            "`check` 会拒绝；请稍后重新出具",
        )
    typer.echo(said, err=True)


@app.command()
@says("离线核对证明或封存部分。退出码 0：成立；1：不成立。")
def check(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False),
        Text("A proof, or the .jsonl of a sealed part.", "一份证明，或封存部分的 .jsonl 文件。"),
    ],
    charter: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False),
        Text("The regulator's charter.", "监管方的章程。"),
    ] = None,
    regulator_key: Annotated[
        str | None,
        typer.Option(),
        Text(
            "The regulator's public key, hex, from a trusted source.",
            "监管方公钥（十六进制），须来自可信来源。",
        ),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(envvar="HEJIN_HOME"),
        Text("Or a member's folder: it holds both.", "或某成员的目录：其中两者都有。"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a proof or a sealed part offline. Exit 0: it holds. Exit 1: it does not."""
    from hejin_trust.ledger import check_proof, read_proof
    from hejin_trust.sealing import SUFFIX, check_part

    known = _charter(charter, regulator_key, home)
    text = read_proof(file)
    if text is not None:
        proven = check_proof(text, known)
        if as_json:
            document = json.loads(proven.entry.raw)
            typer.echo(json.dumps({"entry": document, **_facts(proven.head, known)}))
            return
        _show_one(proven.entry, as_json=False)
        head = proven.head
        said = Text("this entry is in the ledger of", "该条目确在以下成员的账本中：")
    else:
        part = check_part(file.with_suffix(".jsonl") if file.suffix == SUFFIX else file, known)
        facts = {"start": part.start, "end": part.end, "first": part.first, "last": part.last}
        if as_json:
            typer.echo(json.dumps({**facts, **_facts(part.head, known)}))
            return
        typer.echo(f"{part.start} - {part.end - 1}  {part.first} - {part.last}")
        head = part.head
        said = Text(
            "these entries are, whole, in the ledger of", "这些条目完整，确在以下成员的账本中："
        )
    typer.echo(f"{said} {head.member.id} ({head.member.name})")
    for name, value in _facts(head, known).items():
        typer.echo(f"  {_LABELS[name]}: {value}")


_LABELS = {
    "origin": Text("log", "日志"),
    "size": Text("entries under the checkpoint", "检查点条目数"),
    "cosigned": Text("cosigned by the regulator", "监管方见证时间"),
    "log_key": Text("key of the log", "日志公钥"),
    "witness_key": Text("key of the witness", "见证公钥"),
    "charter": Text("charter number", "章程序号"),
}


def _facts(head: Head, charter: Charter) -> dict[str, object]:
    """What a third party can check again with other tools: the keys are C2SP verifier keys."""
    from hejin_trust.canonical import time_text
    from hejin_trust.checkpoint import verifier_key
    from hejin_trust.cosignature import cosigner_key, witness_name

    checkpoint = head.cosigned.checkpoint
    name = witness_name(charter.consortium, charter.regulator.id)
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "cosigned": time_text(head.cosigned.time),
        "log_key": verifier_key(checkpoint.origin, head.member.log_key),
        "witness_key": cosigner_key(name, charter.regulator.log_key),
        "charter": charter.serial,
    }


def _charter(charter: Path | None, regulator_key: str | None, home: Path | None) -> Charter:
    from hejin_trust.canonical import hexbytes
    from hejin_trust.charter import CharterSource
    from hejin_trust.ledger import pinned_charter

    if charter is not None and regulator_key is not None:
        key = hexbytes({"regulator-key": regulator_key.lower()}, "regulator-key", 32)
        return CharterSource(charter, key).current()
    if home is None or charter is not None or regulator_key is not None:
        raise wrong_usage(
            "give --charter and --regulator-key together, or --home",
            "请同时给出 --charter 与 --regulator-key，或给出 --home",
        )
    return pinned_charter(home)


@app.command()
@says(
    "将条目写成封存文件，持有章程者均可核对。\n\n"
    "监管方审计还需要相关文件：请用 `hejin node export` 或 `hejin coordinator export`。"
)
def export(
    home: Home,
    folder: Annotated[
        Path, typer.Argument(file_okay=False), Text("Where to write it.", "存放目录。")
    ],
    log: AnyLog = None,
    start: Annotated[int, typer.Option("--from", min=0), Text("First entry.", "第一个条目。")] = 0,
    end: Annotated[
        int | None,
        typer.Option("--to", min=1),
        Text("Entry to stop before; default the newest.", "到该条目之前为止；默认到最新。"),
    ] = None,
) -> None:
    """Write entries into sealed files that anyone with the charter can check.

    For the regulator's audit, which wants documents too: `hejin node export` or `hejin coordinator
    export`.
    """
    from hejin_trust.database import reading
    from hejin_trust.ledger import open_ledger, seal
    from hejin_trust.sealing import check_part

    if log is None and (start or end):
        raise wrong_usage(
            "--from and --to need --log: the two logs count apart",
            "--from 与 --to 须同时给出 --log：两个日志分别编号",
        )
    with open_ledger(home) as ledger, reading(ledger.engine) as connection:
        for name in _logs(log):
            path = seal(ledger, connection, name, folder, start, end)
            check_part(path, ledger.charter)
            typer.echo(str(path))


@app.command()
@says(
    "将旧条目移入封存文件；数据库保留其哈希，仍可出具证明。\n\n"
    "只移走已结束预算期内、监管方已见证且无人等待的条目。请保留这些文件：导出时从原处读取。"
)
def archive(
    home: Home,
    to: Annotated[
        Path,
        typer.Option(file_okay=False),
        Text("Where the sealed files are to lie.", "封存文件的存放目录。"),
    ],
    log: AnyLog = None,
    before: Annotated[
        str | None,
        typer.Option(),
        Text(
            "Only entries before this day, YYYY-MM-DD (UTC).",
            "仅该日之前的条目，YYYY-MM-DD（UTC）。",
        ),
    ] = None,
    keep: Annotated[
        int,
        typer.Option(min=1),
        Text("The newest entries of a log that stay.", "日志中保留的最新条目数。"),
    ] = 1,
) -> None:
    """Move old entries into sealed files; the database keeps their hashes, proofs go on.

    Only entries of closed budget periods that the regulator has cosigned and that nobody waits
    for. Keep the files: exports read them where they lie.
    """
    from hejin_trust import archive as archiving
    from hejin_trust.database import compact
    from hejin_trust.errors import HejinError
    from hejin_trust.ledger import open_ledger

    moment = None if before is None else f"{_day(before)}T00:00:00Z"
    with open_ledger(home) as ledger:
        moved = False
        for name in _logs(log):
            done = archiving.archive(
                ledger.engine,
                ledger.log(name),
                ledger.charter,
                partial(ledger.part, to, name),
                before=moment,
                keep=keep,
            )
            moved |= done.archive is not None
            typer.echo(f"{name}: {_moved(done)}")
        if moved:
            try:
                compact(ledger.engine)
            except HejinError as reason:
                # The entries are safe either way; new ones will use the space.
                typer.echo(str(reason.text), err=True)


@app.command()
@says("列出归档条目的封存文件，以及文件是否存在。")
def archives(
    home: Home,
    moved_to: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False),
        Text("The folder where the files lie now.", "文件现在所在的目录。"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the sealed files of archived entries and whether they are there."""
    from hejin_trust import archive as archiving
    from hejin_trust.archived import archives as known
    from hejin_trust.database import reading
    from hejin_trust.ledger import open_ledger

    with open_ledger(home) as ledger:
        for name in _logs(None):
            log = ledger.log(name)
            if moved_to is not None:
                archiving.move(ledger.engine, log, ledger.charter, moved_to.absolute())
            with reading(ledger.engine) as connection:
                found = known(connection, log.origin)
            for one in found:
                there = one.path.is_file()
                if as_json:
                    told = {"start": one.start, "end": one.end, "path": str(one.path)}
                    typer.echo(json.dumps({"log": name, **told, "there": there}))
                    continue
                state = Text("there", "存在") if there else Text("MISSING", "缺失")
                typer.echo(f"{name} {one.start} - {one.end - 1}  {state}  {one.path}")


def _moved(done: Archived) -> Text:
    stays = done.limit.why
    if done.archive is None:
        return Text(f"nothing to archive: {stays.en}", f"无可归档条目：{stays.zh}")
    one = done.archive
    return Text(
        f"entries {one.start} to {one.end - 1} are in {one.path}; the rest stays: {stays.en}",
        f"条目 {one.start} 至 {one.end - 1} 已移入 {one.path}；其余保留：{stays.zh}",
    )


def _logs(log: str | None) -> tuple[LogName, ...]:
    from hejin_trust.export import LOG_NAMES

    return LOG_NAMES if log is None else (cast("LogName", log),)


def _day(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError as reason:
        raise wrong_usage(
            "write the day of --before as YYYY-MM-DD", "--before 的日期应写成 YYYY-MM-DD"
        ) from reason


def _visible(line: str) -> str:
    """Return a line without what could steer a terminal: entries quote what peers have sent."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line
    )
