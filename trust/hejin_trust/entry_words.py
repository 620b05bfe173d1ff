"""What ledger entries say, in words: for people who read a ledger, not for checking one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from hejin_trust.canonical import child, fraction
from hejin_trust.entries import Body, Entry
from hejin_trust.text import Text

#: Each type in one line.
TYPES: Final[Mapping[str, Text]] = {
    "genesis": Text("a log begins", "日志开始"),
    "snapshot": Text("data and authorisations of a run fixed", "固定一次运行的数据与授权"),
    "authorisation.grant": Text("an enterprise authorises", "企业授权"),
    "authorisation.revoke": Text("an authorisation ends", "撤销授权"),
    "authorisation.key": Text("an enterprise's key is registered", "登记企业公钥"),
    "authorisation.signature": Text("an enterprise signed its authorisation", "企业签署授权"),
    "authorisation.use": Text("authorisations of a released sum", "一次输出所依据的授权"),
    "erase": Text("an enterprise's data are erased", "删除企业数据"),
    "withdraw": Text("what one source brought is withdrawn", "撤回一次导入的数据"),
    "plan.approve": Text("a node approves a bank's plan", "节点批准银行计划"),
    "plan.refuse": Text("a node refuses a bank's plan", "节点拒绝银行计划"),
    "reserve": Text("the cost of a sum is charged", "预留：扣减一次求和的费用"),
    "renew": Text("a reservation stands again", "预留重新生效"),
    "account": Text("account before and after a reservation", "预留前后的账户"),
    "release": Text("a node's answer to a sum leaves it", "输出：节点对一次求和的应答离开节点"),
    "void": Text("a reservation ends without an answer", "预留作废，未作应答"),
    "receipt": Text("the bank's signed receipt", "银行签名回执"),
    "result": Text("the total of a round", "一轮的总和"),
    "labels": Text("labels received from a bank", "收到银行标签"),
    "labels.request": Text(
        "a set of enterprises fixed before a bank is asked", "询问银行前固定企业集合"
    ),
    "labels.ask": Text("a bank is asked for outcomes", "向银行询问标签"),
    "labels.answer": Text(
        "a bank answers a node's question for outcomes", "银行应答节点的标签询问"
    ),
    "refusal": Text("a request was refused", "拒绝一次请求"),
    "recover": Text("a log goes on after a restored backup", "恢复备份后日志继续"),
    "plan": Text("a bank offers a plan", "银行提出计划"),
    "accept": Text("a bank accepts a node's answer", "银行接收节点应答"),
    "burn": Text("a bank gives up a round", "银行放弃一轮"),
    "model": Text("a model was made", "形成模型"),
}

_SHORT: Final = 8  # hex digits of a hash or pseudonym that are shown


def _genesis(body: Body) -> Text:
    period = f"{_day(body, 'period_from')} – {_day(body, 'period_to')}"
    rho = _rho(body, "rho_cap")
    return Text(f"at most rho {rho} in {period}", f"{period} 内 rho 至多 {rho}")


def _snapshot(body: Body) -> Text:
    run, root = _short(body, "run"), _short(body, "root")
    return Text(f"run {run}: rows under {root}", f"运行 {run}：数据根 {root}")


def _grant(body: Body) -> Text:
    who, until = _short(body, "enterprise"), _day(body, "valid_to")
    what, banks = _list(body, "purposes"), _list(body, "banks")
    return Text(f"{who}: {what} for {banks} until {until}", f"{who}：{banks} {what}，至 {until}")


def _erase(body: Body) -> Text:
    who = _short(body, "enterprise")
    return Text(f"{who}: {body['reason']}", f"{who}：{body['reason']}")


def _withdraw(body: Body) -> Text:
    dataset, load, rows = body["dataset"], body["load"], body["rows"]
    return Text(
        f"load {load} of {dataset}, {rows} rows: {body['reason']}",
        f"{dataset} 的第 {load} 次导入，{rows} 行：{body['reason']}",
    )


def _revoke(body: Body) -> Text:
    return Text(
        f"that of entry {body['grant']}: {body['reason']}",
        f"条目 {body['grant']} 的授权：{body['reason']}",
    )


def _enterprise_key(body: Body) -> Text:
    who, key = _short(body, "enterprise"), _short(body, "key")
    return Text(f"{who}: key {key}", f"{who}：公钥 {key}")


def _signed(body: Body) -> Text:
    key = _short(body, "key")
    return Text(
        f"that of entry {body['grant']}, by key {key}", f"条目 {body['grant']} 的授权，公钥 {key}"
    )


def _use(body: Body) -> Text:
    at = _short(body, "authorisations")
    return Text(
        f"reservation {body['reservation']}: authorisations {at}",
        f"预留 {body['reservation']}：授权 {at}",
    )


def _approve(body: Body) -> Text:
    plan, rho = _plan(body), _rho(body, "rho")
    return Text(
        f"{plan.en}: at most rho {rho}, by {body['by']}",
        f"{plan.zh}：rho 至多 {rho}，由 {body['by']}",
    )


def _refuse(body: Body) -> Text:
    plan = _plan(body)
    why = f"{body['code']}: {body['reason']}"
    return Text(f"{plan.en}: {why}", f"{plan.zh}：{why}")


def _reserve(body: Body) -> Text:
    at, rho = _round(body), _rho(body, "charge")
    what = f"{child(body, 'mechanism')['statistic']} ({body['part']})"
    return Text(
        f"{at.en} of {body['bank']}: {what}, rho {rho} charged",
        f"{body['bank']} 的{at.zh}：{what}，扣减 rho {rho}",
    )


def _account(body: Body) -> Text:
    spent = f"rho {_rho(body, 'spent_before')} → {_rho(body, 'spent_after')}"
    return Text(
        f"reservation {body['reservation']}: {spent}", f"预留 {body['reservation']}：{spent}"
    )


def _release(body: Body) -> Text:
    at = _round(body)
    return Text(
        f"{at.en}: reservation {body['reservation']}", f"{at.zh}：预留 {body['reservation']}"
    )


def _void(body: Body) -> Text:
    why = body["reason"]
    return Text(f"reservation {body['reservation']}: {why}", f"预留 {body['reservation']}：{why}")


def _renew(body: Body) -> Text:
    return Text(f"reservation {body['reservation']}", f"预留 {body['reservation']}")


def _result(body: Body) -> Text:
    at, nodes = _round(body), _list(body, "survivors")
    return Text(f"{at.en}: {nodes}", f"{at.zh}：{nodes}")


def _labels(body: Body) -> Text:
    told = f"{body['bank']}, {body['definition']}, {body['period']}"
    return Text(told, told)


def _request(body: Body) -> Text:
    of, size, slots = _labels(body), body["size"], body["slots"]
    return Text(
        f"{of.en}: {size} enterprises in {slots} slots", f"{of.zh}：{slots} 个位置中企业 {size} 家"
    )


def _ask(body: Body) -> Text:
    of, slots = _labels(body), body["slots"]
    return Text(f"{of.en}: {slots} slots", f"{of.zh}：{slots} 个位置")


def _answered(body: Body) -> Text:
    told = f"{body['node']}, {body['definition']}, {body['period']}"
    slots, items = body["slots"], body["items"]
    return Text(f"{told}: {slots} slots, {items} items", f"{told}：{slots} 个位置，{items} 项")


def _refusal(body: Body) -> Text:
    return Text(f"{body['peer']}: {body['code']}", f"{body['peer']}：{body['code']}")


def _recover(body: Body) -> Text:
    return Text(
        f"put back from entry {body['size']} on: {body['reason']}",
        f"自条目 {body['size']} 起补回：{body['reason']}",
    )


def _offered(body: Body) -> Text:
    told = f"{_short(body, 'plan')}: {body['purpose']}, {body['family']}"
    return Text(told, told)


def _accept(body: Body) -> Text:
    at = _round(body)
    return Text(
        f"{at.en}: {body['node']}, its reservation {body['reservation']}",
        f"{at.zh}：{body['node']}，其预留 {body['reservation']}",
    )


def _burn(body: Body) -> Text:
    at, who = _round(body), " → ".join(filter(None, (str(body["giver"]), str(body["taker"]))))
    return Text(f"{at.en}{who and ': '}{who}", f"{at.zh}{who and '：'}{who}")


def _model(body: Body) -> Text:
    run, model = _short(body, "run"), _short(body, "model")
    return Text(f"run {run}: model {model}", f"运行 {run}：模型 {model}")


_WORDS: Final[Mapping[str, Callable[[Body], Text]]] = {
    "genesis": _genesis,
    "snapshot": _snapshot,
    "authorisation.grant": _grant,
    "authorisation.revoke": _revoke,
    "authorisation.key": _enterprise_key,
    "authorisation.signature": _signed,
    "authorisation.use": _use,
    "erase": _erase,
    "withdraw": _withdraw,
    "plan.approve": _approve,
    "plan.refuse": _refuse,
    "reserve": _reserve,
    "renew": _renew,
    "account": _account,
    "release": _release,
    "void": _void,
    "receipt": _release,
    "result": _result,
    "labels": _labels,
    "labels.request": _request,
    "labels.ask": _ask,
    "labels.answer": _answered,
    "refusal": _refusal,
    "recover": _recover,
    "plan": _offered,
    "accept": _accept,
    "burn": _burn,
    "model": _model,
}


def words(entry: Entry) -> Text:
    """Return what an entry says beside its type: whose, which round, how much."""
    return _WORDS[entry.type](entry.body)


def _short(body: Body, key: str) -> str:
    return str(body[key])[:_SHORT]


def _plan(body: Body) -> Text:
    plan, bank = _short(body, "plan"), body["bank"]
    return Text(f"plan {plan} of {bank}", f"{bank} 的计划 {plan}")


def _round(body: Body) -> Text:
    run, number = _short(body, "run"), body["round"]
    return Text(f"run {run} round {number}", f"运行 {run} 第 {number} 轮")


def _rho(body: Body, key: str) -> str:
    return f"{float(fraction(body, key)):.6g}"


def _day(body: Body, key: str) -> str:
    return str(body[key])[:10]


def _list(body: Body, key: str) -> str:
    listed = body[key]
    assert isinstance(listed, list)
    return ", ".join(str(item) for item in listed)
