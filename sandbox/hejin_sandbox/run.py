"""Run a whole consortium to a verified model, and say what privacy cost."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from hejin_models.scorecard import Scorecard
from hejin_privacy.holdout import split_key
from hejin_sandbox.consortium import HOLDOUT, Answers, Consortium
from hejin_sandbox.errors import RunError
from hejin_sandbox.kept import Findings, bank_view, write_findings
from hejin_sandbox.reference import Rows, compare, rows_of, together
from hejin_sandbox.specs import Spec
from hejin_sandbox.story import Kept, Result, Story
from hejin_sandbox.supervisor import Supervisor
from hejin_sandbox.tables import BANK
from hejin_trust.canonical import child, hexbytes, text
from hejin_trust.text import Text


def run_consortium(spec: Spec, story: Story, keep: Path | None) -> tuple[Result, Kept | None]:
    """Carry `spec` out from founding to verification and return what came of it.

    keep     new or empty folder for homes, ledgers, logs, pictures and report; None: a temporary
             one, removed afterwards
    returns  the result, and what is kept where
    raises   ProcessError, RunError; then the processes' logs stay, and with `keep` the rest too
    """
    folder = _folder(keep)
    try:
        with _ended_by_sigterm(), Supervisor(folder / "logs") as supervisor:
            consortium = Consortium(spec, supervisor, folder)
            found = _carry_out(spec, story, consortium)
            if keep is not None:
                with story.step(Text("pictures and report are written", "生成图表与报告")):
                    write_findings(folder, consortium.home(BANK), found)
    except Exception:
        if keep is None:
            _remove_all_but_logs(folder)
        raise
    except BaseException:  # Ctrl-C and SIGTERM: nobody asks why
        if keep is None:
            shutil.rmtree(folder)
        raise
    if keep is None:
        shutil.rmtree(folder)
        return found.result, None
    return found.result, Kept(keep, text(found.model, "model"), BANK, spec.nodes[0].id)


def _carry_out(spec: Spec, story: Story, consortium: Consortium) -> Findings:
    begin = time.monotonic()
    nodes = len(spec.nodes)
    with story.step(
        Text(
            f"the regulator founds the consortium and admits a bank and {nodes} nodes",
            f"监管端组建联盟，准入一家银行与 {nodes} 个节点",
        )
    ):
        consortium.found()
    with story.step(
        Text(
            "everyone joins over mutually authenticated TLS, each its own process",
            "各方以双向认证 TLS 加入，各自独立进程",
        )
    ):
        consortium.open()
    with story.counted(
        Text(
            f"nodes load {spec.enterprises:,} enterprises, their authorisations and outcomes",
            f"各节点载入 {spec.enterprises:,} 家企业的数据、授权与违约结果",
        ),
        nodes,
    ) as loaded:
        consortium.load(dt.datetime.now(dt.UTC).date(), loaded)
    with story.step(Text("the bank proposes its plan", "银行提出方案")):
        proposed = consortium.propose(str(spec.title))
    _tell_plan(story, proposed)
    plan, sums = str(proposed["plan"]), _whole(proposed, "sums")
    with story.step(Text("every node checks the plan and approves it", "各节点检查方案并批准")):
        consortium.approve(plan)
    with story.counted(
        Text(f"{sums} private sums, one scorecard", f"{sums} 次隐私求和，得到一张评分卡"), sums
    ) as summed:
        per_sum = consortium.train(plan, summed) / sums
    model, charter = consortium.model(), consortium.charter()
    with story.step(
        Text(
            "every member exports its ledger; the regulator verifies them offline",
            "各成员导出账本，监管端离线核验",
        )
    ):
        consortium.close()
        consortium.export()
        report = consortium.verify()
    _tell_faults(story, report)
    seconds = time.monotonic() - begin
    with story.step(
        Text(
            "the sandbox compares with models that there would be without privacy",
            "沙箱与无隐私保护的模型作对比",
        )
    ):
        scorecard = Scorecard.from_body(child(model, "scorecard"))
        rows = _rows(spec, plan, charter)
        truth = compare(spec.view, scorecard, rows)
        cells, labels = together(rows).part(holdout=True)
    bank = bank_view(model)
    result = Result(
        test_auc=truth.test_auc,
        test_ks=truth.test_ks,
        private_auc=None if bank is None else bank.auc.value,
        private_auc_se=None if bank is None else bank.auc.error,
        pooled_scorecard_auc=truth.pooled_auc,
        alone_auc_mean=truth.alone_auc_mean,
        epsilon=_number(proposed, "epsilon"),
        delta=_number(proposed, "delta"),
        rho=_number(proposed, "rho"),
        mode=spec.mode,
        nodes=nodes,
        enterprises=spec.enterprises,
        sums=sums,
        seconds=seconds,
        seconds_per_sum=per_sum,
        verified=report["verified"] is True,
    )
    return Findings(result, model, report, scorecard, scorecard.points(cells), labels, spec.note)


def _rows(spec: Spec, plan: str, charter: Answers) -> list[Rows]:
    """Return every node's rows with the hold-out of this plan: its split follows from its hash."""
    key = split_key(plan, hexbytes(charter, "nonce", 32))
    return [rows_of(spec.view, node, spec.as_of, key, Fraction(HOLDOUT)) for node in spec.nodes]


def _tell_faults(story: Story, report: Answers) -> None:
    if report["verified"] is not True:
        story.warn(
            Text(
                f"the regulator's verification failed: {json.dumps(report, ensure_ascii=False)}",
                f"监管端核验未通过：{json.dumps(report, ensure_ascii=False)}",
            )
        )


def _tell_plan(story: Story, proposed: Answers) -> None:
    once, most = (_number(proposed, key) for key in ("epsilon", "epsilon_at_most"))
    delta, loss = _number(proposed, "delta"), _number(proposed, "expected_auc_loss")
    spare = Text("", "")
    if most > once:
        spare = Text(
            f" ({most:.3g} at most, if a round had to be asked again)",
            f"（若有轮次须重做，至多 {most:.3g}）",
        )
    story.say(
        Text(
            f"what it costs every enterprise: epsilon {once:.3g}{spare.en} at delta {delta:.0e};"
            f" what noise is expected to cost the model: {loss:.3f} AUC",
            f"每家企业的代价：epsilon {once:.3g}{spare.zh}，delta {delta:.0e}；"
            f"噪声预计损失 AUC {loss:.3f}",
        )
    )
    if proposed["mode"] == "shared":
        least = _whole(proposed, "minimum_nodes")
        story.say(
            Text(
                "every answer is masked: the bank can open the total over"
                f" {least} nodes or more, and nothing of any one of them",
                f"所有应答均加掩码：银行只能打开不少于 {least} 个节点的总和，看不到任何单个节点",
            )
        )


def _number(answers: Answers, key: str) -> float:
    value = answers[key]
    if not isinstance(value, int | float):
        raise TypeError(f"{key} must be a number")
    return float(value)


def _whole(answers: Answers, key: str) -> int:
    return int(_number(answers, key))


def _folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="hejin-sandbox-"))
    if keep.exists() and any(keep.iterdir()):
        raise RunError(
            f"{keep} is not empty; name a new folder.", f"{keep} 不是空文件夹；请指定新文件夹。"
        )
    keep.mkdir(parents=True, exist_ok=True)
    return keep.resolve()


def _remove_all_but_logs(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name != "logs":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that a killed sandbox still stops its processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
