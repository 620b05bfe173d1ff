"""The node's commands that bring data in: ingest once or on an interval, mappings, quarantine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hejin_node.cli_bar import progress_bar
from hejin_node.cli_options import AsJson, Home
from hejin_node.cli_warehouse import data_app, need_dataset
from hejin_trust.commands import group, says, wrong_usage
from hejin_trust.errors import HejinError
from hejin_trust.listing import print_table
from hejin_trust.text import Text

if TYPE_CHECKING:
    from sqlalchemy import URL

    from hejin_node.home import NodeHome
    from hejin_node.ingest import IngestReport
    from hejin_node.mapping import SourceMapping
    from hejin_node.sources import Progress

mapping_app = group(Text("How sources become data sets.", "来源到数据集的映射。"))

MappingName = Annotated[
    str,
    typer.Option("--mapping"),
    Text(
        "Mapping file (TOML), or the name of a shipped one.", "映射文件（TOML），或自带映射的名称。"
    ),
]


def print_report(report: IngestReport, *, as_json: bool, name: str = "") -> None:
    """Say what became of a source."""
    if as_json:
        named = {"name": name} if name else {}
        typer.echo(json.dumps({**named, **asdict(report)}, ensure_ascii=False))
        return
    front = f"{name}: " if name else ""
    if report.already:
        typer.echo(
            Text(
                f"{front}{report.dataset}: nothing new, it was loaded before; nothing was done.",
                f"{front}{report.dataset}：没有新内容，此前已载入，未作任何更改。",
            )
        )
        return
    bad = sum(report.quarantined.values())
    typer.echo(
        Text(
            f"{front}{report.dataset}: {report.loaded} rows loaded, {bad} in quarantine, "
            f"{report.replaced} values not finite (now missing), {report.seconds:.1f} s",
            f"{front}{report.dataset}：载入 {report.loaded} 行，隔离 {bad} 行，"
            f"{report.replaced} 个非有限数值按缺失处理，用时 {report.seconds:.1f} 秒",
        )
    )
    for rule, count in sorted(report.quarantined.items(), key=lambda item: -item[1]):
        typer.echo(f"  {rule}: {count}")


@says(
    "将文件或数据库导入数据仓库；不合格的行进入隔离区。\n\n"
    "相同内容再次导入不会改变任何数据；中断的导入从原处继续。"
)
def ingest(
    home: Home,
    mapping: MappingName,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(exists=True),
        Text(
            "CSV, Parquet or Excel files, or a folder of them.",
            "CSV、Parquet 或 Excel 文件，或其所在目录。",
        ),
    ] = None,
    corrects: Annotated[
        int | None,
        typer.Option(min=1),
        Text(
            "The file holds corrected rows of this load's quarantine.",
            "文件内容是该次导入隔离行的更正。",
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch"),
        Text(
            "Go on until SIGTERM: a folder, or the database.",
            "持续监视目录或数据库，直至收到 SIGTERM。",
        ),
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1), Text("Seconds between two looks.", "两次查看之间的秒数。")
    ] = 60.0,
    url_env: Annotated[
        str | None,
        typer.Option(),
        Text("Environment variable with the database's address.", "存放数据库地址的环境变量。"),
    ] = None,
    url_file: Annotated[
        Path | None,
        typer.Option(),
        Text("File of mode 0600 with the database's address.", "存放数据库地址的文件，权限 0600。"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load files or a database into the warehouse; bad rows go to quarantine.

    The same content again changes nothing; what was interrupted goes on where it was.
    """
    from hejin_node.home import open_home
    from hejin_node.mapping import find_mapping

    with open_home(home) as node:
        rules = find_mapping(mapping, node.schemas())
        desk = _Desk(node, rules, as_json)
        if rules.sql is not None:
            if sources or corrects is not None:
                raise wrong_usage(
                    "this mapping asks a database: name no files",
                    "该映射读取数据库：不要给出文件",
                )
            desk.database(_address(url_env, url_file), every if watch else None)
            return
        if not sources:
            raise wrong_usage("name a file", "请给出文件")
        if corrects is not None and (watch or len(sources) != 1):
            raise wrong_usage(
                "--corrects goes with one file, and not with --watch",
                "--corrects 只与一个文件同用，且不可与 --watch 同用",
            )
        if watch:
            if len(sources) != 1 or not sources[0].is_dir():
                raise wrong_usage("--watch goes with one folder", "--watch 须给出一个目录")
            desk.watch(sources[0], every)
            return
        desk.files(sources, corrects)


def _address(url_env: str | None, url_file: Path | None) -> URL:
    from hejin_node.source_sql import url_in_environment, url_in_file

    if url_env is not None and url_file is None:
        return url_in_environment(url_env)
    if url_file is not None and url_env is None:
        return url_in_file(url_file)
    raise wrong_usage(
        "this mapping asks a database: give --url-env NAME or --url-file FILE",
        "该映射读取数据库：请给出 --url-env 变量名 或 --url-file 文件",
    )


@dataclass(frozen=True)
class _Desk:
    """An open node at which sources come in under one mapping."""

    node: NodeHome
    rules: SourceMapping
    as_json: bool

    def files(self, paths: Iterable[Path], corrects: int | None) -> None:
        """Load files one after the other; a refused one does not stop the others."""
        from hejin_node.sources import file_name
        from hejin_node.watch import files_in

        found = files_in(paths)
        failures: list[HejinError] = []
        loaded = False
        for path in found:
            name = file_name(path) if len(found) > 1 else ""
            try:
                loaded |= self._take(self._of_file(path, corrects), name)
            except HejinError as reason:
                if len(found) == 1:
                    raise
                failures.append(reason)
                self._failed(file_name(path), reason)
        if loaded:
            self._check()
        if failures:
            typer.echo(
                Text(
                    f"{len(failures)} of {len(found)} files were not loaded, see above",
                    f"{len(found)} 个文件中有 {len(failures)} 个未载入，详见上文",
                ),
                err=True,
            )
            raise typer.Exit(1)

    def database(self, url: URL, every: float | None) -> None:
        """Ask the database once, or every so many seconds."""
        from hejin_node.watch import watch_database
        from hejin_trust.process import until_signal

        if every is None:
            if self._take(self._of_database(url), ""):
                self._check()
            return
        stop = until_signal()
        load = self._of_database(url)
        unchecked: list[str] = []

        def take() -> None:
            if self._take(load, "", stop) or unchecked:
                unchecked[:] = [self.rules.dataset]
                self._check()
                unchecked.clear()

        watch_database(take, self._failed, stop, every)

    def watch(self, folder: Path, every: float) -> None:
        """Load each file of a folder as it comes."""
        from hejin_node.sources import file_name
        from hejin_node.watch import watch_folder
        from hejin_trust.process import until_signal

        stop = until_signal()
        unchecked: list[str] = []

        def take(path: Path) -> None:
            if self._take(self._of_file(path, None), file_name(path), stop):
                unchecked.append(file_name(path))

        def after() -> None:
            if unchecked:
                self._check()
                unchecked.clear()

        watch_folder(folder, take, after, self._failed, stop, every)

    def _of_file(self, path: Path, corrects: int | None) -> Callable[[Progress], IngestReport]:
        from hejin_node.ingest import ingest as load
        from hejin_node.ingest import ingest_corrected

        if corrects is None:
            return lambda progress: load(self.node.warehouse, path, self.rules, progress)
        return lambda progress: ingest_corrected(
            self.node.warehouse, path, self.rules, corrects, progress
        )

    def _of_database(self, url: URL) -> Callable[[Progress], IngestReport]:
        from hejin_node.ingest import ingest_database

        return lambda progress: ingest_database(self.node.warehouse, url, self.rules, progress)

    def _take(
        self,
        load: Callable[[Progress], IngestReport],
        name: str,
        stop: threading.Event | None = None,
    ) -> bool:
        """Load one source, say what became of it, and return whether it brought rows."""
        from hejin_node.watch import stopping

        rows = self.rules.sql is not None
        with progress_bar(shown=not self.as_json, rows=rows) as progress:
            report = load(progress if stop is None else stopping(progress, stop))
        if stop is None or not report.already:
            print_report(report, as_json=self.as_json, name=name)
        return not report.already

    def _check(self) -> None:
        """Check the data set's quality, once for all that came, and say the outcome."""
        from hejin_node.quality_check import check, summary

        node = self.node
        checked = check(node.warehouse, node.schemas(), self.rules.dataset, node.now())
        typer.echo(summary(checked), err=self.as_json)

    def _failed(self, name: str, reason: HejinError) -> None:
        if self.as_json:
            told = {"name": name, "code": reason.code, "error": str(reason.text)}
            typer.echo(json.dumps(told, ensure_ascii=False))
        else:
            typer.echo(str(reason.text), err=True)


@mapping_app.command("list")
@says("列出 Hejin 自带的映射，可作示例或直接使用。")
def mapping_list(as_json: AsJson = False) -> None:
    """List the mappings that come with Hejin, as examples or to be used as they are."""
    from rich.table import Table

    from hejin_node.mapping import find_mapping, shipped_mappings

    found = {name: find_mapping(name) for name in shipped_mappings()}
    if as_json:
        rows = [{"name": name, "dataset": one.dataset} for name, one in found.items()]
        typer.echo(json.dumps({"mappings": rows}))
        return
    heads = (Text("mapping", "映射"), Text("data set", "数据集"), Text("what it is of", "说明"))
    table = Table(*map(str, heads))
    for name, one in found.items():
        lines = shipped_mappings()[name].decode("utf-8").splitlines()
        about = " ".join(line.removeprefix("# ") for line in lines if line.startswith("# "))
        table.add_row(name, one.dataset, about)
    print_table(table)


@mapping_app.command("show")
@says("打印一个自带的映射文件，以便保存并修改。")
def mapping_show(
    name: Annotated[str, typer.Argument(), Text("Name of a shipped mapping.", "自带映射的名称。")],
) -> None:
    """Print a shipped mapping file, to be saved and changed."""
    from hejin_node.errors import MappingError
    from hejin_node.mapping import shipped_mappings

    found = shipped_mappings().get(name)
    if found is None:
        raise MappingError(
            f"No mapping {name} comes with Hejin: see `hejin node mapping list`.",
            f"Hejin 未附带名为 {name} 的映射：参见 `hejin node mapping list`。",
        )
    typer.echo(found.decode("utf-8"), nl=False)


@mapping_app.command("check")
@says("检查映射，并用文件的前若干行试读。退出码 1：没有一行可导入。")
def mapping_check(
    mapping: Annotated[
        str,
        typer.Argument(),
        Text("Mapping file, or the name of a shipped one.", "映射文件，或自带映射的名称。"),
    ],
    sample: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False),
        Text("A file to try it on; nothing is loaded.", "用来试读的文件；不会导入任何数据。"),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option("--home", envvar="HEJIN_HOME"),
        Text("For the schemas that it extends.", "节点目录，用于其扩展的数据规范。"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a mapping, and how the first rows of a file fare under it. Exit 1: none would load."""
    from hejin_models.schemas import load_schemas
    from hejin_node.mapping import find_mapping
    from hejin_node.trial import try_mapping

    rules = find_mapping(mapping, load_schemas(None if home is None else home / "schemas"))
    said = Text(
        f"the mapping is sound: {len(rules.columns)} columns of {rules.dataset}",
        f"映射有效：数据集 {rules.dataset} 的 {len(rules.columns)} 列",
    )
    facts: dict[str, object] = {"dataset": rules.dataset, "columns": dict(rules.schema)}
    good = 1
    lines: list[str] = []
    if sample is not None:
        tried = try_mapping(sample, rules)
        good = tried.good
        facts |= asdict(tried)
        bad = sum(tried.bad.values())
        lines.append(
            str(
                Text(
                    f"of the first {tried.good + bad} rows {tried.good} would be loaded",
                    f"前 {tried.good + bad} 行中有 {tried.good} 行可载入",
                )
            )
        )
        lines += [f"  {rule}: {count}" for rule, count in tried.bad.items()]
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
    else:
        typer.echo("\n".join([str(said), *lines]))
    if not good:
        raise typer.Exit(1)


@data_app.command("quarantine")
@says("按导入与规则统计隔离行，或写出以便更正。")
def data_quarantine(
    home: Home,
    dataset: Annotated[str, typer.Argument(), Text("Name of the data set.", "数据集名称。")],
    out: Annotated[
        Path | None,
        typer.Option(),
        Text(
            "Write the rows to this CSV file, mode 0600, to be corrected.",
            "把隔离行写入该 CSV 文件（权限 0600）以便更正。",
        ),
    ] = None,
    load: Annotated[
        int | None,
        typer.Option(min=1),
        Text("Whose rows to write, where there are several.", "有多次导入时，写出哪一次的行。"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count the rows in quarantine by load and rule, or write them out for correction."""
    from hejin_node.home import open_home
    from hejin_node.quarantine import export, held_back

    with open_home(home) as node:
        if out is not None:
            chosen, rows = export(node.warehouse, dataset, load, out)
            said = Text(
                f"{rows} rows written to {out}; correct them, and bring them back with "
                f"`hejin node ingest {out.name} --mapping MAPPING --corrects {chosen}`",
                f"已将 {rows} 行写入 {out}；更正后请用 "
                f"`hejin node ingest {out.name} --mapping 映射文件 --corrects {chosen}` 载入",
            )
            typer.echo(json.dumps({"rows": rows}) if as_json else said)
            return
        need_dataset(node, dataset)
        found = held_back(node.warehouse, dataset)
        names = {one.id: one.name for one in node.warehouse.loads(dataset)}
    if as_json:
        typer.echo(json.dumps({"dataset": dataset, "loads": _plain(found, names)}))
        return
    _show_quarantine(dataset, found, names)


def _plain(
    found: Mapping[int, Mapping[str, int]], names: Mapping[int, str]
) -> list[dict[str, object]]:
    return [
        {"load": load, "name": names.get(load, ""), "rules": dict(rules)}
        for load, rules in found.items()
    ]


def _show_quarantine(
    dataset: str, found: Mapping[int, Mapping[str, int]], names: Mapping[int, str]
) -> None:
    from rich.table import Table

    rows = sum(sum(rules.values()) for rules in found.values())
    title = Text(f"{dataset}: {rows:,} rows in quarantine", f"{dataset}：隔离 {rows:,} 行")
    heads = (
        Text("load", "导入"),
        Text("source", "来源"),
        Text("rule", "规则"),
        Text("rows", "行数"),
    )
    table = Table(*map(str, heads), title=str(title))
    for load, rules in found.items():
        for rule, count in sorted(rules.items(), key=lambda item: -item[1]):
            table.add_row(str(load), names.get(load, ""), rule, f"{count:,}")
    print_table(table)
