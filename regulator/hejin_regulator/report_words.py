"""Every text of the printed report that is not a finding, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

from hejin_trust.text import Text

TITLE = Text("Verification of ledgers", "账本核验报告")

# -- what was verified -----------------------------------------------------------------------
CONSORTIUM = Text("Consortium", "联盟")
CHARTER = Text("Charter in force", "现行章程")
CHARTER_VALUE = Text("no. {serial}, digest {digest}", "第 {serial} 号，摘要 {digest}")
FOLDER = Text("Folder", "核验的文件夹")
CHECKED = Text("Checked", "核验时间")
CHECKED_VALUE = Text("{utc} UTC (Beijing time {beijing})", "北京时间 {beijing}（UTC {utc}）")
SOFTWARE = Text("Software", "软件")
MEMBERS = Text("Members read", "已读取的成员")
KEY = Text("Regulator's public key", "监管方公钥")
PINNED = Text(
    "given by whoever ran the check (pinned)",
    "由核验人提供（已固定）",
)
NOT_PINNED = Text(
    "NOT pinned: taken from the export itself",
    "未固定：取自导出文件本身",
)

# -- the verdict -----------------------------------------------------------------------------
VERIFIED = Text("VERIFIED", "核验通过")
VERIFIED_UNSURE = Text(
    "VERIFIED, but under a key that nobody confirmed", "核验通过，但公钥未经确认"
)
UNSURE = Text(
    "The key was taken from the export itself: compare it with the regulator's key that you know. "
    "Until then this only says that the files agree with each other; anybody could have made them.",
    "公钥取自导出文件本身，请与您所知的监管方公钥核对。核对之前仅说明各文件彼此一致，任何人都可能伪造。",
)
NOT_VERIFIED = Text("NOT VERIFIED", "核验未通过")
VERIFIED_SENTENCE = Text(
    "All {checks} checks hold for the files in this folder.",
    "对本文件夹中的文件，{checks} 项检查全部成立。",
)
NOT_VERIFIED_SENTENCE = Text(
    "Of {checks} checks, {failed} failed. Findings: {findings}.",
    "{checks} 项检查中有 {failed} 项不成立，共 {findings} 处问题。",
)
MEANS = Text("What this means", "这表示")
VERIFIED_MEANS = (
    Text(
        "Every sum that left a node had been charged to its budget and cosigned by the regulator "
        "before. No node spent more than its cap.",
        "离开节点的每一次求和都事先记入预算并经监管方会签；没有节点超出预算上限。",
    ),
    Text(
        "The ledgers were not rewritten, cut or kept in two versions; what nodes sent and what "
        "banks confirmed is the same.",
        "账本未被改写、删减，也没有两个版本；节点发出的与银行确认的一致。",
    ),
    Text(
        "All costs were computed anew from the noise that the ledgers name, in two ways.",
        "全部费用均按账本所记噪声、以两种方法重新计算。",
    ),
)
NOT_VERIFIED_MEANS = (
    Text(
        "The ledgers in this folder must not be relied on as they are. The budgets below are what "
        "could be read, and may be incomplete.",
        "不能以本文件夹中的账本为据。下列预算仅为所能读出的部分，可能不完整。",
    ),
    Text(
        "Go through the findings. Ask the members named there for a new export and verify again; "
        "what stays is to be looked into on site.",
        "请逐条查看问题，要求所列成员重新导出后再次核验；仍然存在的，应现场检查。",
    ),
)
MEANS_NOT = Text("What this does not mean", "这不表示")
VERIFIED_MEANS_NOT = (
    Text(
        "That the members' data are true, or that nobody acted outside the protocol: see section "
        "7. Nor is it a judgement on a model or a credit decision.",
        "不表示成员数据真实，也不表示无人在协议之外行事（见第 7 节）；亦非对模型或信贷决定的评价。",
    ),
)
NOT_VERIFIED_MEANS_NOT = (
    Text(
        "That somebody acted in bad faith. Missing, incomplete or damaged files fail a check just "
        "as forged ones do.",
        "不表示有人恶意行事：文件缺失、不全或损坏，与伪造一样记为不成立。",
    ),
)
WARNINGS = Text("Warnings", "提示")

# -- 1 checks --------------------------------------------------------------------------------
CHECKS = Text("1. Checks", "1. 检查")
CHECK = Text("Check", "检查")
WHAT_HOLDS = Text("What must hold", "须成立的内容")
RESULT = Text("Result", "结果")
FINDINGS_NUMBER = Text("Findings", "问题数")
CHECKS_NOTE = Text(
    "Where a log could not be read to its end, the other checks only saw what stands before.",
    "若某日志未能读至末尾，其余检查仅涵盖此前部分。",
)
HOLDS = Text("✓ holds", "✓ 成立")
FAILED = Text("✗ failed", "✗ 不成立")

# -- 2 findings ------------------------------------------------------------------------------
FINDINGS = Text("2. Findings", "2. 问题")
NO_FINDINGS = Text("None.", "无。")
FINDINGS_TOTAL = Text("Number: {total}", "数量：{total}")
FINDINGS_SHOWN = Text(
    "Number: {total}; shown: {shown}, taken from each member in turn",
    "数量：{total}；列出 {shown} 处（各成员轮流取）",
)
FINDINGS_ALL = Text(
    "All of them with: hejin regulator verify FOLDER --json",
    "全部问题：hejin regulator verify 文件夹 --json",
)
BY_MEMBER = Text("By member: {members}", "按成员：{members}")
MEMBER = Text("Member", "成员")
ENTRY = Text("Entry", "条目")
REASON = Text("What does not hold", "不成立之处")
EVIDENCE = Text("Evidence", "证据")

# -- 3 budgets -------------------------------------------------------------------------------
BUDGETS = Text("3. Budget by node, bank and period", "3. 各节点、银行与预算期的预算")
BUDGETS_NOTE = Text(
    "Spent is an odometer reading and rounded up, left is rounded down; the guarantee is the cap. "
    "Epsilon at the charter's delta. What is left is told in rho, because epsilon does not add up. "
    "All banks share a node's cap. Exact fractions: appendix A.",
    "“已用”为累计读数，向上取整；“剩余”向下取整；保证以上限为准。epsilon 按章程的 delta 计算。"
    "因 epsilon 不可相加，剩余以 rho 表示。各银行共用节点的上限。精确分数见附录 A。",
)
PERIOD = Text(
    "Budget period {start} to {end} UTC; delta {delta}",
    "预算期 {start} 至 {end}（UTC）；delta {delta}",
)
NODE = Text("Node", "节点")
BANK = Text("Bank", "银行")
ALL_BANKS = Text("all banks", "全部银行")
RELEASES = Text("Releases", "输出次数")
RHO_SPENT = Text("rho spent", "已用 rho")
RHO_CAP = Text("rho cap", "rho 上限")
RHO_LEFT = Text("rho left", "剩余 rho")
USED = Text("used", "已用比例")
EPSILON = Text("epsilon", "epsilon")
EPSILON_CAP = Text("epsilon cap", "epsilon 上限")
ABOVE = Text("▲ above the cap", "▲ 超出上限")
ALONE = Text("If all other nodes colluded with the banks", "若其余节点全部与银行合谋")
ALONE_NOTE = Text(
    "What the banks could then learn about an enterprise of this node: only its own noise would "
    "protect it.",
    "届时银行对该节点企业可能得知的程度：仅有该节点自身的噪声提供保护。",
)
NO_BUDGET = Text("No node's account could be read.", "未能读出任何节点的账户。")
ROWS_LEFT = Text("{left} more rows: --json", "另有 {left} 行：--json")

# -- 4 course --------------------------------------------------------------------------------
COURSE = Text("4. Spending over time", "4. 预算支出过程")
COURSE_NOTE = Text(
    "Over all banks, in rho, as a share of the cap: half way up, half of the budget is spent. "
    "Times are UTC.",
    "按全部银行合计，以 rho 占上限的比例表示：达到一半，即预算用去一半。时间为 UTC。",
)
LEGEND_SPENT = Text("spent", "已用")
LEGEND_CAP = Text("cap", "上限")
LEGEND_PERIOD = Text("new budget period", "新预算期")

# -- 5 refusals and voids --------------------------------------------------------------------
REFUSALS = Text("5. Refusals and voids", "5. 拒绝与作废")
REFUSALS_TOTAL = Text("Refusals: {total}", "拒绝：{total} 次")
VOIDS_TOTAL = Text(
    "Voids: {total} (nothing left the node, the cost stays charged)",
    "作废：{total} 次（无任何输出，费用不退还）",
)
PEER = Text("Refused", "被拒绝方")
CODE = Text("Code", "代码")
WHY = Text("Why", "原因")
TIMES = Text("Times", "次数")

# -- 6 what was read -------------------------------------------------------------------------
READ = Text("6. What was read", "6. 已读取的账本")
READ_NOTE = Text(
    "Whoever finds the same root has the same entries, to the last bit.",
    "根相同，则条目逐位相同。",
)
LOG = Text("Log", "日志")
LOGS: Mapping[str, Text] = {
    "release": Text("release", "输出"),
    "internal": Text("internal", "内部"),
}
ENTRIES = Text("Entries", "条目数")
ROOT = Text("Root (SHA-256)", "根（SHA-256）")
TYPE = Text("Type of entry", "条目类型")
MEANING = Text("What it says", "含义")
NUMBER = Text("Number", "数量")

# -- 7 limits --------------------------------------------------------------------------------
LIMITS = Text("7. What cannot be verified from ledgers", "7. 账本无法核验的事项")
LIMITS_LIST = (
    Text(
        "Collusion outside the protocol: a bank and a node that pass data on by other ways.",
        "协议之外的合谋：银行与节点以其他途径传递数据。",
    ),
    Text(
        "Invented data: the ledger fixes data in time, it does not prove them true.",
        "捏造的数据：账本只固定数据的时间，不证明其真实。",
    ),
    Text(
        "Forged authorisations of grade B: the node's operator vouches for them. Those of grade A "
        "bear the enterprise's own signature.",
        "伪造的 B 级授权：由节点运营方担保；A 级授权带有企业自己的签名。",
    ),
    Text(
        "Less noise than the ledger says: costs are computed from the noise that was logged.",
        "实际噪声少于所记：费用按账本所记噪声计算。",
    ),
    Text(
        "What message sizes, times and participation give away: no budget covers it.",
        "消息大小、时间与参与情况所透露的信息：不在预算之内。",
    ),
)

# -- 8 terms ---------------------------------------------------------------------------------
TERMS = Text("8. Terms", "8. 术语")
TERMS_LIST = (
    (
        Text("rho", "rho"),
        Text(
            "what a sum may give away about one enterprise (zero-concentrated differential "
            "privacy). It adds up.",
            "一次求和可能透露单个企业信息的程度（零集中差分隐私），可以相加。",
        ),
    ),
    (
        Text("epsilon, delta", "epsilon、delta"),
        Text(
            "the same in the usual measure: apart from a chance of delta, no outcome becomes more "
            "than e^epsilon times as likely through one enterprise's data.",
            "同一程度的常用度量：除概率 delta 外，单个企业的数据使任一结果的可能性至多变为 "
            "e^epsilon 倍。",
        ),
    ),
    (
        Text("cap", "上限"),
        Text(
            "the most rho that the charter lets a node spend in a budget period, over all banks.",
            "章程允许节点在一个预算期内对全部银行合计支出的最大 rho。",
        ),
    ),
    (
        Text("reservation, release, void", "预留、输出、作废"),
        Text(
            "the charge before data are read; the answer that leaves the node; a charge that no "
            "answer followed.",
            "读取数据之前的扣减；离开节点的应答；扣减后未作应答。",
        ),
    ),
    (
        Text("checkpoint, cosignature", "检查点、会签"),
        Text(
            "a log's signed size and root; the regulator's signature with its time on it, given "
            "once it holds every entry.",
            "经签名的日志大小与根；监管方留存全部条目后附时间的签名。",
        ),
    ),
)

# -- appendix and signature ------------------------------------------------------------------
APPENDIX = Text("Appendix A. Exact costs", "附录 A 精确费用")
RHO_EXACT = Text("rho, exact", "rho 精确值")
RHO_ALONE_EXACT = Text("rho if all others colluded, exact", "其余节点合谋时 rho 精确值")
SIGNATURE = Text("Signature", "签署")
AUDITOR = Text("Auditor (name, signature)", "核验人（姓名、签字）")
INSTITUTION = Text("Institution (seal)", "单位（公章）")
DATE = Text("Date", "日期")
KEY_COMPARED = Text(
    "☐ I compared the regulator's public key with the one I know.",
    "☐ 监管方公钥已与所知公钥核对一致。",
)
