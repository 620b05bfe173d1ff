"""The words of the statement that an enterprise is given about the use of its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hejin_trust.text import Text

TITLE: Final = Text("Statement of data use", "数据使用告知书")
ENTERPRISE: Final = Text("Enterprise (unified social credit code)", "企业（统一社会信用代码）")
PSEUDONYM: Final = Text("Named in the ledger", "账本中的化名")
OPERATOR: Final = Text("Platform operator", "平台运营方")
CONSORTIUM: Final = Text("Consortium", "联盟")
ISSUED: Final = Text("As of", "截至")
ISSUED_VALUE: Final = Text("{utc} UTC (Beijing time {beijing})", "北京时间 {beijing}（UTC {utc}）")

NOT_USED: Final = Text("Your data have not been used", "您的数据尚未被使用")
USED: Final = Text("Your data were used", "您的数据已被使用")
USED_LEAD: Final = Text(
    "{banks} received {sums} sums that hold them. Computations for models: {runs}.",
    "参与了 {runs} 次建模计算，其 {sums} 次求和由{banks}接收。",
)
UNKNOWN: Final = Text(
    "For {sums} sums it is not known any more whether your data are in them: the record was lost "
    "with a database. They are not counted below.",
    "另有 {sums} 次求和是否含您的数据已无法查明：相关记录随数据库丢失。下文未计入。",
)
MEANS: Final = Text("What this means", "这表示")
MEANS_LINES: Final = (
    Text(
        "No record and no figure of your enterprise alone has left the operator's warehouse for "
        "these computations. What left are sums over many enterprises, with random noise added.",
        "在这些计算中，贵企业的任何记录和单独数据均未离开运营方的数据仓库；"
        "离开的只是众多企业的求和，并加入了随机噪声。",
    ),
    Text(
        "Every sum was entered in a ledger before it was computed. The regulator keeps a copy and "
        "verifies what was charged, sent and authorised; your authorisations stand there under "
        "your pseudonym.",
        "每次求和在计算之前均已记入账本。监管方保存副本，并核验计费、输出与授权；"
        "您的授权以化名记载其中。",
    ),
)

ALLOWED: Final = Text("What you allowed", "您授权的内容")
NO_GRANTS: Final = Text("No authorisation of yours is recorded.", "没有您的授权记录。")
NUMBER: Final = Text("No.", "序号")
GRADE: Final = Text("Grade", "等级")
PURPOSES: Final = Text("Purposes", "用途")
BANKS: Final = Text("Banks", "银行")
DATA: Final = Text("Data", "数据")
VALID: Final = Text("Valid (UTC)", "有效期（UTC）")
STATE: Final = Text("State", "状态")
STANDS: Final = Text("in force", "有效")
NOT_BEGUN: Final = Text("not begun", "未生效")
EXPIRED: Final = Text("expired", "已到期")
REVOKED: Final = Text("revoked {at}", "{at} 撤销")
DOCUMENT: Final = Text("document", "文件")
ERASED: Final = Text("Your data were erased here at {at}.", "您的数据已于 {at} 在此删除。")

USES: Final = Text("What was used, when, and by whom", "使用了什么、何时、由谁使用")
NO_RUNS: Final = Text(
    "No bank has carried out a plan at this platform.", "尚无银行在本平台执行计划。"
)
RUN: Final = Text("Computation for {bank}", "{bank}的计算")
PURPOSE: Final = Text("Purpose", "用途")
PRODUCT: Final = Text("Product", "产品")
MODEL: Final = Text("Kind of model", "模型类型")
FEATURES: Final = Text("Features used", "所用特征")
BASIS: Final = Text("Basis", "依据")
BASIS_VALUE: Final = Text("authorisation {grant}", "第 {grant} 号授权")
SINCE: Final = Text("Begun (UTC)", "开始（UTC）")
OPEN: Final = Text("goes on", "进行中")
OVER: Final = Text("over", "已结束")
PLAN: Final = Text("Plan", "计划")
ROLE: Final = Text("Your part", "您所属部分")
TRAIN: Final = Text("training: the model was fitted to it", "训练部分：用于拟合模型")
HOLDOUT: Final = Text("hold-out: the model was tested on it", "留出部分：用于检验模型")
COST: Final = Text("Cost to your privacy", "隐私代价")
COST_VALUE: Final = Text("epsilon {epsilon}", "epsilon {epsilon}")
WHEN: Final = Text("Released (UTC)", "输出时间（UTC）")
WHAT: Final = Text("What was summed", "求和内容")
IN_IT: Final = Text("Your data", "您的数据")
YES: Final = Text("in it", "包含")
NO: Final = Text("not in it", "不包含")
LOST: Final = Text("not known", "未知")
ROWS_LEFT: Final = Text("and {left} more", "另有 {left} 行")

UNUSED: Final = Text("Where your data were not used, and why", "未使用您数据的计算及原因")
BANK: Final = Text("Bank", "银行")
WHY: Final = Text("Why not", "原因")

QUESTIONS: Final = Text("Questions to banks about your loans", "向银行询问贵企业贷款履约结果")
QUESTIONS_TELL: Final = Text(
    "You authorised the platform to learn from these banks how your loans went. They were asked by "
    "private set intersection: a bank did not learn that you were asked for, nor for how many "
    "others. What it answered lies encrypted at the platform and leaves it in sums over many "
    "enterprises only.",
    "您授权平台从下列银行获知贷款履约结果。询问采用隐私求交：银行不知道询问涉及贵企业，也不知道涉及"
    "多少家企业。其应答加密存放于平台，只以众多企业求和的形式输出。",
)
ASKED: Final = Text("Asked (UTC)", "询问时间（UTC）")
DEFINITION: Final = Text("Definition of default", "违约定义")
OF_PERIOD: Final = Text("Period", "期间")
ANSWER: Final = Text("Answer", "应答")
ANSWERED: Final = Text("the bank answered", "银行已应答")
UNANSWERED: Final = Text("no answer was taken in", "未收到应答")

PRIVACY: Final = Text("What it cost your privacy", "隐私代价")
PRIVACY_TELLS: Final = Text(
    "The noise limits what anybody can learn about your enterprise from everything that left. The "
    "limit is the number epsilon: whatever somebody guesses about you, their odds of being right "
    "grow by at most the factor e^epsilon over what they would be had your data not been used "
    "(except with a probability of {delta}). Small is good: 0 means nothing at all.",
    "噪声限制了任何人从全部输出中可得知的关于贵企业的信息，其上限由 epsilon 表示：无论他人对贵企业"
    "作何猜测，与您的数据未被使用相比，其猜中的几率至多增至 e^epsilon 倍（除去概率 {delta}）。"
    "数值越小越好，0 表示完全无从得知。",
)
PERIOD: Final = Text("Budget period from (UTC)", "预算期起始（UTC）")
SUMS: Final = Text("Sums", "求和次数")
EPSILON: Final = Text("epsilon", "epsilon")
FACTOR: Final = Text("Odds grow at most", "几率至多增至")
FACTOR_VALUE: Final = Text("{factor} times", "{factor} 倍")
LIFETIME: Final = Text("all periods together", "各期合计")
ALONE: Final = Text(
    "epsilon if all other platforms colluded with the bank", "若其他平台均与银行串通时的 epsilon"
)
NOTHING: Final = Text(
    "Nothing: none of your data are in anything that left.", "无：输出中不含您的任何数据。"
)
CAP: Final = Text(
    "The promise is the cap: by the charter nobody's epsilon at this platform may exceed {cap} in "
    "the period from {start} to {end} (if all others colluded: {cap_alone}), over all banks "
    "together. The figures above are a reading so far.",
    "承诺以上限为准：依章程，自 {start} 至 {end}，本平台任何企业对全部银行合计的 epsilon "
    "不得超过 {cap}（若其他各方均串通：{cap_alone}）。上表为截至目前的读数。",
)

RIGHTS: Final = Text("What you can do", "您可以做什么")
CONTACT: Final = Text("Contact", "联系方式")
WITHDRAWAL: Final = Text("Withdraw", "撤回授权")
AFTERWARDS: Final = Text("After that", "撤回之后")
RESPONSIBILITY: Final = Text("Responsibility", "责任主体")
FLOW: Final = Text("Where data go", "数据流向")
STORAGE: Final = Text("Storage", "存储")
RETENTION: Final = Text("Kept until", "保存期限")
MADE: Final = Text(
    "Made by Hejin {version} from the operator's records; charter no. {serial}, {digest}.",
    "由 Hejin {version} 依运营方记录生成；章程第 {serial} 号，{digest}。",
)

STATISTICS: Final[Mapping[str, Text]] = {
    "histogram": Text("how many enterprises in each band of each feature", "各特征各分档的企业数"),
    "label_histogram": Text(
        "how many good and bad enterprises in each band of each feature",
        "各特征各分档的正常与违约企业数",
    ),
    "gram": Text("how features go together", "特征之间的相关"),
    "logistic_gradient": Text("in which direction to correct the model", "模型修正的方向"),
    "network_gradient": Text("in which direction to correct the network", "网络修正的方向"),
    "score_histogram": Text(
        "how many good and bad enterprises in each band of the score", "各评分档的正常与违约企业数"
    ),
    "bin_counts": Text("how many enterprises in each bin of the model", "模型各分箱的企业数"),
}
FAMILIES: Final[Mapping[str, Text]] = {
    "scorecard": Text("scorecard", "评分卡"),
    "network": Text("neural network", "神经网络"),
}
