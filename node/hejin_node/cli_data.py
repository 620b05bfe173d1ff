"""The node's data commands: ingest, authorisations, labels, feature views."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_node.consent import Authorisation
    from hejin_node.ingest import IngestReport
    from hejin_node.mapping import Encoding
    from hejin_node.sources import Progress
    from hejin_node.terms import Terms

authorisation_app = typer.Typer(
    no_args_is_help=True, help="Enterprises' authorisations. 企业数据授权。"
)
labels_app = typer.Typer(no_args_is_help=True, help="Outcomes that banks reported. 标签。")
view_app = typer.Typer(no_args_is_help=True, help="Feature views of this node. 特征视图。")

Home = Annotated[
    Path, typer.Option("--home", envvar="HEJIN_HOME", help="The node's folder.", file_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SourceFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or Parquet.")]
CsvEncoding = Annotated[str, typer.Option(help="Of a CSV file: utf-8 or gb18030.")]


@contextmanager
def _bar(*, shown: bool) -> Iterator[Progress]:
    """Show a progress bar on stderr while a file is read."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bar(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not shown,
    ) as bar:
        task = bar.add_task(str(Text("reading", "读取中")), total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)


def _table(title: Text, heads: Sequence[Text], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*map(str, heads), title=str(title))
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _encoding(value: str) -> Encoding:
    if value not in ("utf-8", "gb18030"):
        raise typer.BadParameter("write utf-8 or gb18030")
    return cast("Encoding", value)


def _print_report(report: IngestReport, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(report), ensure_ascii=False))
        return
    if report.already:
        typer.echo(
            Text(
                f"{report.dataset}: this file was loaded before; nothing was done.",
                f"{report.dataset}：该文件此前已载入，未作任何更改。",
            )
        )
        return
    bad = sum(report.quarantined.values())
    typer.echo(
        Text(
            f"{report.dataset}: {report.loaded} rows loaded, {bad} in quarantine, "
            f"{report.replaced} values not finite (now missing), {report.seconds:.1f} s",
            f"{report.dataset}：载入 {report.loaded} 行，隔离 {bad} 行，"
            f"{report.replaced} 个非有限数值按缺失处理，用时 {report.seconds:.1f} 秒",
        )
    )
    for rule, count in sorted(report.quarantined.items(), key=lambda item: -item[1]):
        typer.echo(f"  {rule}: {count}")


def ingest(
    home: Home,
    file: SourceFile,
    mapping: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Mapping file (TOML).")
    ],
    as_json: AsJson = False,
) -> None:
    """Load a CSV or Parquet file into the warehouse; bad rows go to quarantine."""
    from hejin_node.home import open_home
    from hejin_node.ingest import ingest as load
    from hejin_node.mapping import SourceMapping

    rules = SourceMapping.load(mapping)
    with open_home(home) as node, _bar(shown=not as_json) as progress:
        report = load(node.warehouse, file, rules, progress)
    _print_report(report, as_json=as_json)


@authorisation_app.command("grant")
def authorisation_grant(
    home: Home,
    code: Annotated[str, typer.Argument(help="Unified social credit code.")],
    document: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="The signed document; hashed.")
    ],
    valid_from: Annotated[str, typer.Option("--from", help="YYYY-MM-DD, UTC.")],
    valid_to: Annotated[str, typer.Option("--to", help="YYYY-MM-DD, UTC; the first day after.")],
    purpose: Annotated[list[str], typer.Option(help="May be repeated.")],
    bank: Annotated[list[str], typer.Option(help="Member name, or '*'. May be repeated.")],
    category: Annotated[list[str], typer.Option(help="Data category, or '*'. May be repeated.")],
    feature: Annotated[list[str] | None, typer.Option(help="Default: '*', all.")] = None,
    grade: Annotated[str, typer.Option(help="A: the enterprise's own seal; B: attested.")] = "B",
    as_json: AsJson = False,
) -> None:
    """Record one enterprise's authorisation."""
    from hejin_node.appending import open_to_append
    from hejin_node.consent import grant
    from hejin_node.source_files import file_digest
    from hejin_node.terms import read_terms
    from hejin_trust.database import writing

    terms = read_terms(
        document=file_digest(document),
        grade=grade,
        purposes=purpose,
        banks=bank,
        categories=category,
        features=feature or ["*"],
        valid_from=valid_from,
        valid_to=valid_to,
    )
    with open_to_append(home) as node, writing(node.database) as connection:
        seq = grant(connection, node.internal_log, node.pseudonym_key, code, terms)
    said = Text(f"recorded as grant {seq}", f"已登记为第 {seq} 号授权")
    typer.echo(json.dumps({"seq": seq}) if as_json else said)


@authorisation_app.command("import")
def authorisation_import(
    home: Home,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV.")],
    encoding: CsvEncoding = "utf-8",
    as_json: AsJson = False,
) -> None:
    """Record the authorisations of a CSV file, if all its rows can be used.

    After an interruption import it again: what stands is not recorded twice.
    """
    from hejin_node.appending import open_to_append
    from hejin_node.consent import grant_in_parts, read_grants

    grants = read_grants(file, _encoding(encoding))
    with open_to_append(home) as node:
        new, already = grant_in_parts(node.database, node.internal_log, node.pseudonym_key, grants)
    said = Text(
        f"{new} authorisations recorded, {already} stood already",
        f"新登记授权 {new} 份，{already} 份此前已登记",
    )
    typer.echo(json.dumps({"granted": new, "already": already}) if as_json else said)


@authorisation_app.command("revoke")
def authorisation_revoke(
    home: Home,
    code: Annotated[str | None, typer.Argument(help="All grants of this enterprise.")] = None,
    seq: Annotated[int | None, typer.Option(min=0, help="This grant only.")] = None,
    reason: Annotated[str, typer.Option(help="Why, in a few words; it is logged.")] = "",
    as_json: AsJson = False,
) -> None:
    """End authorisations from the next private sum on; released models stay."""
    from hejin_node.appending import open_to_append
    from hejin_node.consent import revoke
    from hejin_trust.database import writing

    if (code is None) == (seq is None):
        raise typer.BadParameter("name an enterprise's code, or a grant by --seq")
    with open_to_append(home) as node, writing(node.database) as connection:
        ended = revoke(connection, node.internal_log, reason, code=code, seq=seq)
    said = Text(f"{len(ended)} authorisations revoked", f"已撤销 {len(ended)} 份授权")
    typer.echo(json.dumps({"revoked": list(ended)}) if as_json else said)


@authorisation_app.command("list")
def authorisation_list(
    home: Home,
    code: Annotated[str | None, typer.Option(help="Only this enterprise's.")] = None,
    in_force: Annotated[bool, typer.Option(help="Only those in force now.")] = False,
    as_json: AsJson = False,
) -> None:
    """List authorisations."""
    from hejin_node.consent import authorisations
    from hejin_node.home import open_home
    from hejin_trust.database import reading

    with open_home(home) as node, reading(node.database) as connection:
        found = authorisations(connection, code=code, at=node.now() if in_force else None)
    if as_json:
        typer.echo(json.dumps({"authorisations": [_authorisation(one) for one in found]}))
        return
    _table(
        Text(f"{len(found)} authorisations", f"授权 {len(found)} 份"),
        (
            Text("seq", "序号"),
            Text("enterprise", "企业"),
            Text("purposes", "用途"),
            Text("banks", "银行"),
            Text("categories", "数据类别"),
            Text("valid", "有效期"),
            Text("revoked", "撤销"),
        ),
        [_authorisation_row(one) for one in found],
    )


def _authorisation_row(one: Authorisation) -> tuple[str, ...]:
    terms = one.terms
    return (
        str(one.seq),
        one.code,
        ", ".join(terms.purposes),
        ", ".join(terms.banks),
        ", ".join(terms.categories),
        f"{terms.valid_from:%Y-%m-%d} - {terms.valid_to:%Y-%m-%d}",
        one.revoked_at or "",
    )


def _authorisation(one: Authorisation) -> Mapping[str, object]:
    return {
        "seq": one.seq,
        "enterprise": one.code,
        "pseudonym": one.pseudonym,
        **_terms(one.terms),
        "revoked_seq": one.revoked_seq,
        "revoked_at": one.revoked_at,
    }


def _terms(terms: Terms) -> dict[str, object]:
    from hejin_trust.canonical import time_text

    return {
        **asdict(terms),
        "valid_from": time_text(terms.valid_from),
        "valid_to": time_text(terms.valid_to),
    }


@labels_app.command("load")
def labels_load(
    home: Home,
    file: SourceFile,
    bank: Annotated[str, typer.Option(help="Member name of the bank whose outcomes they are.")],
    definition: Annotated[
        str, typer.Option(help="What counts as bad, with its version: overdue90-12m-1.")
    ],
    period: Annotated[str, typer.Option(help="Which months the outcomes cover.")] = "",
    enterprise_column: Annotated[str, typer.Option(help="Column of the codes.")] = "enterprise",
    label_column: Annotated[str, typer.Option(help="Column of 1 (bad) and 0 (good).")] = "label",
    encoding: CsvEncoding = "utf-8",
    as_json: AsJson = False,
) -> None:
    """Load outcomes: one row per enterprise, 1 bad, 0 good."""
    from hejin_node.appending import open_to_append
    from hejin_node.labels import LabelFile, label_spec, load_labels

    layout = LabelFile(enterprise_column, label_column, _encoding(encoding))
    spec = label_spec(bank, definition)
    with open_to_append(home) as node, _bar(shown=not as_json) as progress:
        report = load_labels(
            node.warehouse,
            node.internal_log,
            file,
            spec,
            period=period,
            layout=layout,
            progress=progress,
        )
    _print_report(report, as_json=as_json)


@view_app.command("install")
def view_install(
    home: Home,
    file: Annotated[str, typer.Argument(help="View file, or a shipped view: sba-loans-v1.")],
    as_json: AsJson = False,
) -> None:
    """Check a feature view and install it at this node."""
    from hejin_models.features import view_file
    from hejin_node.home import open_home
    from hejin_node.views import install_view

    with open_home(home) as node:
        view = install_view(node.views_folder, view_file(file))
    said = Text(
        f"installed {view.id} ({view.text.en}), {len(view.features)} features, hash {view.digest}",
        f"已安装 {view.id}（{view.text.zh}），{len(view.features)} 个特征，哈希 {view.digest}",
    )
    typer.echo(json.dumps({"id": view.id, "sha256": view.digest}) if as_json else said)


@view_app.command("list")
def view_list(home: Home, as_json: AsJson = False) -> None:
    """List the installed feature views."""
    from hejin_node.home import open_home
    from hejin_node.views import installed_views

    with open_home(home) as node:
        views = installed_views(node.views_folder)
    if as_json:
        typer.echo(
            json.dumps({"views": [{"id": view.id, "sha256": view.digest} for view in views]})
        )
        return
    _table(
        Text(f"{len(views)} feature views", f"特征视图 {len(views)} 个"),
        (
            Text("view", "视图"),
            Text("name", "名称"),
            Text("features", "特征"),
            Text("hash", "哈希"),
        ),
        [(view.id, str(view.text), str(len(view.features)), view.digest) for view in views],
    )
