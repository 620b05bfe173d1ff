"""The node's commands about authorisations: form, key, grant, accept, list, revoke, in bulk."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hejin_node.cli_options import AsJson, Code, CsvEncoding, Home
from hejin_trust.commands import group, says, wrong_usage
from hejin_trust.listing import print_table
from hejin_trust.text import Text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hejin_node.consent import Authorisation
    from hejin_node.signed import Signed

authorisation_app = group(Text("Enterprises' authorisations.", "企业数据授权。"))

From = Annotated[
    str, typer.Option("--from"), Text("YYYY-MM-DD, UTC.", "起始日 YYYY-MM-DD（UTC）。")
]
To = Annotated[
    str,
    typer.Option("--to"),
    Text("YYYY-MM-DD, UTC; the first day after.", "YYYY-MM-DD（UTC）；到期后的第一天。"),
]
Purposes = Annotated[
    list[str], typer.Option("--purpose"), Text("May be repeated.", "用途，可重复。")
]
Banks = Annotated[
    list[str],
    typer.Option("--bank"),
    Text("Member name, or '*'. May be repeated.", "银行的成员名，或 '*'；可重复。"),
]
Categories = Annotated[
    list[str],
    typer.Option("--category"),
    Text(
        "Data category, '*', or 'outcome'. May be repeated.", "数据类别、'*' 或 'outcome'；可重复。"
    ),
]
Features = Annotated[
    list[str] | None,
    typer.Option("--feature"),
    Text("Default: '*', all.", "特征；默认 '*'，即全部。"),
]


@authorisation_app.command("form")
@says("写出供企业阅读并签署的文件：form.html、record.json 与 to-sign.bin。")
def authorisation_form(
    home: Home,
    code: Code,
    out: Annotated[
        Path,
        typer.Option(file_okay=False),
        Text("Folder for the form's files.", "表单文件的存放目录。"),
    ],
    valid_from: From,
    valid_to: To,
    purpose: Purposes,
    bank: Banks,
    category: Categories,
    feature: Features = None,
    as_json: AsJson = False,
) -> None:
    """Write what an enterprise reads and signs: form.html, record.json and to-sign.bin."""
    from hejin_node.consent import pseudonym
    from hejin_node.form import PAGE, TO_SIGN, write_form
    from hejin_node.home import open_home
    from hejin_node.notice import read_notice
    from hejin_node.record import new_record
    from hejin_node.signed import keep_record
    from hejin_node.terms import read_terms
    from hejin_trust.database import writing

    terms = read_terms(
        document="0" * 64,  # not known before the record is made
        grade="A",
        purposes=purpose,
        banks=bank,
        categories=category,
        features=feature or ["*"],
        valid_from=valid_from,
        valid_to=valid_to,
    )
    with open_home(home) as node:
        charter = node.charter
        record = new_record(
            charter,
            charter.member(node.member_id, "node"),
            read_notice(home),
            code=code,
            pseudonym=pseudonym(node.pseudonym_key, code),
            terms=terms,
            made=node.now(),
        )
        with writing(node.database) as connection:
            keep_record(connection, record)
        write_form(out, record, node.internal_log.origin)
    document = record.terms.document
    said = Text(
        f"written to {out}: {PAGE} to read and print, {TO_SIGN} to sign; document {document}",
        f"已写入 {out}：{PAGE} 供阅读与打印，{TO_SIGN} 供签署；文件哈希 {document}",
    )
    typer.echo(json.dumps({"document": document, "folder": str(out)}) if as_json else said)


@authorisation_app.command("key")
@says("登记企业的签名密钥；此后以该密钥为准。")
def authorisation_key(
    home: Home,
    code: Code,
    public_key: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False),
        Text("Ed25519 public key, PEM.", "Ed25519 公钥（PEM）。"),
    ],
    evidence: Annotated[
        Path,
        typer.Option(exists=True, dir_okay=False),
        Text("Document that shows whose it is; hashed.", "证明密钥归属的文件；只记其哈希。"),
    ],
    as_json: AsJson = False,
) -> None:
    """Register the key that an enterprise signs with; from now on it is the one that counts."""
    from hejin_models.uscc import check_code
    from hejin_node.appending import open_to_append
    from hejin_node.consent import pseudonym
    from hejin_node.signed import read_public_key, register_key
    from hejin_node.source_files import file_digest
    from hejin_trust.database import writing

    check_code(code)
    key, proof = read_public_key(public_key), file_digest(evidence)
    with open_to_append(home) as node, writing(node.database) as connection:
        seq = register_key(
            connection,
            node.internal_log,
            code=code,
            pseudonym=pseudonym(node.pseudonym_key, code),
            key=key,
            evidence=proof,
        )
    said = Text(f"key {key.hex()} registered", f"已登记公钥 {key.hex()}")
    typer.echo(json.dumps({"seq": seq, "key": key.hex()}) if as_json else said)


@authorisation_app.command("grant")
@says("记录一家企业的 B 级授权：由运营方证明签署文件。")
def authorisation_grant(
    home: Home,
    code: Code,
    document: Annotated[
        Path,
        typer.Option(exists=True, dir_okay=False),
        Text("The signed document; hashed.", "已签署的文件；只记其哈希。"),
    ],
    valid_from: From,
    valid_to: To,
    purpose: Purposes,
    bank: Banks,
    category: Categories,
    feature: Features = None,
    as_json: AsJson = False,
) -> None:
    """Record one enterprise's authorisation of grade B: the operator attests the document."""
    from hejin_node.appending import open_to_append
    from hejin_node.consent import grant
    from hejin_node.source_files import file_digest
    from hejin_node.terms import read_terms
    from hejin_trust.database import writing

    terms = read_terms(
        document=file_digest(document),
        grade="B",
        purposes=purpose,
        banks=bank,
        categories=category,
        features=feature or ["*"],
        valid_from=valid_from,
        valid_to=valid_to,
    )
    with open_to_append(home) as node, writing(node.database) as connection:
        seq = grant(connection, node.internal_log, node.pseudonym_key, code, terms)
    _print_granted(seq, as_json=as_json)


@authorisation_app.command("accept")
@says("记录一项 A 级授权：企业以自己的密钥签署的表单。")
def authorisation_accept(
    home: Home,
    record: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False),
        Text("The form's record.json.", "表单的 record.json。"),
    ],
    signature: Annotated[
        Path,
        typer.Option(exists=True, dir_okay=False),
        Text("Of to-sign.bin, by the enterprise.", "企业对 to-sign.bin 的签名。"),
    ],
    as_json: AsJson = False,
) -> None:
    """Record an authorisation of grade A: a form that the enterprise signed with its own key."""
    from hejin_node.appending import open_to_append
    from hejin_node.consent import grant
    from hejin_node.record import parse_record
    from hejin_node.signed import Signed, newest_keys, read_signature
    from hejin_trust.database import writing

    form, signed = parse_record(record.read_bytes()), read_signature(signature)
    with open_to_append(home) as node, writing(node.database) as connection:
        key = newest_keys(connection).get(form.code, b"")
        seq = grant(
            connection,
            node.internal_log,
            node.pseudonym_key,
            form.code,
            form.terms,
            Signed(form, key, signed),
        )
    _print_granted(seq, as_json=as_json)


@authorisation_app.command("import")
@says("记录 CSV 文件中的授权，须各行均可用。\n\n中断后再次导入即可：已记录的不会重复记录。")
def authorisation_import(
    home: Home,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False), Text("CSV.", "CSV 文件。")],
    encoding: CsvEncoding = "utf-8",
    as_json: AsJson = False,
) -> None:
    """Record the authorisations of a CSV file, if all its rows can be used.

    After an interruption import it again: what stands is not recorded twice.
    """
    from hejin_node.appending import open_to_append
    from hejin_node.bulk import read_grants
    from hejin_node.consent import grant_in_parts
    from hejin_node.signed import find_record
    from hejin_trust.database import reading

    with open_to_append(home) as node:
        with reading(node.database) as connection:
            find = partial(find_record, connection)
            grants = read_grants(file, encoding, find)
        new, already, revoked = grant_in_parts(
            node.database, node.internal_log, node.pseudonym_key, grants
        )
    if as_json:
        typer.echo(json.dumps({"granted": new, "already": already, "revoked": revoked}))
        return
    typer.echo(
        Text(
            f"{new} authorisations recorded, {already} stood already",
            f"新登记授权 {new} 份，{already} 份此前已登记",
        )
    )
    if revoked:
        typer.echo(
            Text(
                f"{revoked} were revoked, and stay so: an enterprise that authorises again signs "
                "a new form",
                f"{revoked} 份已被撤销，仍为撤销状态：企业如再次授权，须重新签署表单",
            )
        )


@authorisation_app.command("export")
@says("将未撤回的授权写成 `import` 可读的 CSV 文件。")
def authorisation_export(
    home: Home,
    out: Annotated[
        Path, typer.Argument(dir_okay=False), Text("CSV file to write.", "要写出的 CSV 文件。")
    ],
    as_json: AsJson = False,
) -> None:
    """Write the authorisations that were not revoked as a CSV file that `import` reads."""
    from hejin_node.bulk import grants_csv
    from hejin_node.consent import authorisations
    from hejin_node.home import open_home
    from hejin_trust.database import reading
    from hejin_trust.files import replace_file

    with open_home(home) as node, reading(node.database) as connection:
        standing = [one for one in authorisations(connection) if one.revoked_seq is None]
        text = grants_csv((one, _signed(connection, one)) for one in standing)
    replace_file(out, text.encode(), mode=0o600)
    said = Text(
        f"{len(standing)} authorisations written to {out}; it names enterprises: keep it safe",
        f"已将 {len(standing)} 份授权写入 {out}；其中含企业代码，请妥善保管",
    )
    typer.echo(json.dumps({"exported": len(standing)}) if as_json else said)


@authorisation_app.command("revoke")
@says("自下一次隐私求和起终止授权；已发布的模型保留。")
def authorisation_revoke(
    home: Home,
    code: Annotated[
        str | None, typer.Argument(), Text("All grants of this enterprise.", "该企业的全部授权。")
    ] = None,
    seq: Annotated[
        int | None, typer.Option(min=0), Text("This grant only.", "仅此一项授权。")
    ] = None,
    reason: Annotated[
        str, typer.Option(), Text("Why, in a few words; it is logged.", "简述原因；会记入账本。")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """End authorisations from the next private sum on; released models stay."""
    from hejin_node.appending import open_to_append
    from hejin_node.consent import revoke
    from hejin_node.trace import affected_runs
    from hejin_trust.database import writing

    if (code is None) == (seq is None):
        raise wrong_usage(
            "name an enterprise's code, or a grant by --seq",
            "请给出企业的统一社会信用代码，或用 --seq 指定一项授权",
        )
    with open_to_append(home) as node, writing(node.database) as connection:
        ended = revoke(connection, node.internal_log, reason, code=code, seq=seq)
        runs = affected_runs(node, connection, ended)
    if as_json:
        affected = [
            {"run": one.run, "plan": one.plan, "bank": one.bank, "open": not one.closed}
            for one in runs
        ]
        typer.echo(json.dumps({"revoked": list(ended), "runs": affected}))
        return
    typer.echo(Text(f"{len(ended)} authorisations revoked", f"已撤销 {len(ended)} 份授权"))
    for one in runs:
        stays = (
            Text("is over, what it released stays", "已结束，已输出的内容继续有效")
            if one.closed
            else Text("goes on without it", "将不再含其数据而继续")
        )
        typer.echo(
            Text(
                f"  run {one.run} of {one.bank}: {stays.en}",
                f"  {one.bank} 的运行 {one.run}：{stays.zh}",
            )
        )


@authorisation_app.command("list")
@says("列出授权。")
def authorisation_list(
    home: Home,
    code: Annotated[
        str | None, typer.Option(), Text("Only this enterprise's.", "仅该企业的授权。")
    ] = None,
    in_force: Annotated[
        bool, typer.Option(), Text("Only those in force now.", "仅当前有效的授权。")
    ] = False,
    expiring: Annotated[
        int | None,
        typer.Option(min=0),
        Text("Only those in force that end within so many days.", "仅在所给天数内到期的有效授权。"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List authorisations."""
    from rich.table import Table

    from hejin_node.authorisation_shown import facts, table_row
    from hejin_node.consent import authorisations
    from hejin_node.home import open_home
    from hejin_trust.database import reading

    with open_home(home) as node, reading(node.database) as connection:
        now = node.now()
        at = now if in_force or expiring is not None else None
        found = authorisations(connection, code=code, at=at)
    if expiring is not None:
        last = now + timedelta(days=expiring)
        found = [one for one in found if one.terms.valid_to <= last]
    if as_json:
        typer.echo(json.dumps({"authorisations": [facts(one) for one in found]}))
        return
    heads = (
        Text("seq", "序号"),
        Text("enterprise", "企业"),
        Text("grade", "等级"),
        Text("purposes", "用途"),
        Text("banks", "银行"),
        Text("categories", "数据类别"),
        Text("valid", "有效期"),
        Text("revoked", "撤销"),
    )
    title = Text(f"{len(found)} authorisations", f"授权 {len(found)} 份")
    table = Table(*map(str, heads), title=str(title))
    for one in found:
        table.add_row(*table_row(one))
    print_table(table)


@authorisation_app.command("show")
@says("显示一项授权及其记录；A 级另示密钥与签名。")
def authorisation_show(
    home: Home,
    seq: Annotated[int, typer.Argument(min=0), Text("Number of the grant.", "授权的编号。")],
    as_json: AsJson = False,
) -> None:
    """Show one authorisation with its record and, of grade A, key and signature."""
    from rich.table import Table

    from hejin_node.authorisation_shown import table_lines, whole
    from hejin_node.consent import find_grant
    from hejin_node.home import open_home
    from hejin_trust.database import reading

    with open_home(home) as node, reading(node.database) as connection:
        one = find_grant(connection, seq)
        signed = _signed(connection, one)
    if as_json:
        typer.echo(json.dumps(whole(one, signed), ensure_ascii=False))
        return
    title = Text(f"authorisation {seq}", f"第 {seq} 号授权")
    table = Table(title=str(title), show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in table_lines(one, signed):
        table.add_row(str(name), value)
    print_table(table)


def _print_granted(seq: int, *, as_json: bool) -> None:
    said = Text(f"recorded as grant {seq}", f"已登记为第 {seq} 号授权")
    typer.echo(json.dumps({"seq": seq}) if as_json else said)


def _signed(connection: Connection, one: Authorisation) -> Signed | None:
    """Return the signature of a grant of grade A, if its record is still here."""
    from hejin_node.signed import find_signed

    return find_signed(connection, one.seq, one.code, one.terms.document)
