"""The members of one sandbox consortium, driven by the commands that people would type."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

from hejin_privacy.accounting import epsilon, rho_for
from hejin_sandbox.errors import RunError
from hejin_sandbox.inputs import InputFiles, NodeData, write_inputs
from hejin_sandbox.specs import Spec
from hejin_sandbox.supervisor import LISTENING, Command, Service, Supervisor
from hejin_sandbox.tables import BANK, REGULATOR

CONSORTIUM = "sandbox"
DEFINITION = "bad-v1"
HOLDOUT = "1/5"
VERIFICATION = "verification.html"

_START_SECONDS = 60.0
_ANSWER_SECONDS = 60.0
_RUN_SECONDS = 1800.0
_LOOK_SECONDS = 0.1

_NODE_READY = re.compile(r"^node serves", re.MULTILINE)
# What the bank's log says of a run, in structlog's logfmt.
ROUND = re.compile(r"event=round\b.*?\bsum=(\d+)")
DONE = re.compile(r"event=run-done\b")
FAILED = re.compile(r"event=run-(?:failed|paused)\b|^Exception in thread", re.MULTILINE)

Answers = Mapping[str, object]


class Consortium:
    """One regulator, one bank and the spec's nodes, each with its own home below `folder`."""

    def __init__(self, spec: Spec, supervisor: Supervisor, folder: Path) -> None:
        self._spec, self._supervisor, self._folder = spec, supervisor, folder
        asked = spec.request
        self._cap = plans_cap(asked.epsilon, asked.delta, spare=spec.mode == "shared")
        self._regulator_key = ""
        self._fewest = min(size_band(len(node.codes))[0] for node in spec.nodes)
        self._addresses: dict[str, str] = {}
        self._admissions: dict[str, str] = {}
        self._services: dict[str, Service] = {}

    @property
    def ledgers(self) -> Path:
        """Where the members' exported ledgers lie."""
        return self._folder / "ledgers"

    @property
    def report(self) -> Path:
        """Where the regulator's printable report lies after `verify`."""
        return self._folder / VERIFICATION

    def home(self, member: str) -> Path:
        """Return the home folder of a member."""
        return self._folder / "homes" / member

    def found(self) -> None:
        """Make the regulator's charter and every member's keys; admit all of them."""
        spec, cap = self._spec, self._cap
        said = self._ask(
            REGULATOR,
            "init",
            *("regulator", "init", "--consortium", CONSORTIUM),
            *("--rho-cap", str(cap), "--rho-alone-cap", str(cap * len(spec.nodes))),
            *("--delta", repr(spec.request.delta)),
            *("--minimum-nodes", str(min(3, len(spec.nodes)))),
            *(
                "--minimum-enterprises",
                str(min(100, self._fewest)),
            ),
        )
        self._regulator_key = str(said["regulator_key"])
        self._supervisor.run_all(
            [self._init_bank(), *(self._init_node(node) for node in spec.nodes)]
        )
        members = [BANK, *(node.id for node in spec.nodes)]
        requests = [str(self.home(member) / "request.json") for member in members]
        said = self._ask(
            REGULATOR,
            "admit",
            *("regulator", "admit", *requests, "--out", str(self._folder / "admissions")),
        )
        admitted = said["admitted"]
        assert isinstance(admitted, dict)
        self._admissions = admitted

    def open(self) -> None:
        """Start the regulator and the bank; every member joins."""
        self._addresses[REGULATOR] = self._serve(REGULATOR, "regulator")
        regulator = ("--regulator", self._addresses[REGULATOR])
        self._supervisor.run(
            self._command(BANK, "join", "coordinator", "join", self._admissions[BANK], *regulator)
        )
        self._addresses[BANK] = self._serve(BANK, "coordinator")
        bank = ("--bank", f"{BANK}={self._addresses[BANK]}")
        self._supervisor.run_all(
            [
                self._command(
                    node.id, "join", "node", "join", self._admissions[node.id], *bank, *regulator
                )
                for node in self._spec.nodes
            ]
        )

    def load(self, today: dt.date, progress: Callable[[int], None]) -> None:
        """Give every node its view, records, authorisations and labels; then start it.

        What was written in the clear to be loaded is removed: the nodes keep it encrypted.
        """
        view = self._folder / "view.toml"
        view.write_bytes(self._spec.view_file)
        inputs = self._folder / "inputs"
        chains = []
        try:
            for node in self._spec.nodes:
                files = write_inputs(node, self._spec.view, BANK, inputs / node.id, today)
                chains.append(self._load_node(node.id, view, files))
            self._supervisor.run_chains(chains, progress)
        finally:
            shutil.rmtree(inputs, ignore_errors=True)
        for node in self._spec.nodes:
            self._services[node.id] = self._supervisor.serve(
                node.id, ["node", "serve"], self.home(node.id)
            )
        for node in self._spec.nodes:
            self._services[node.id].wait_for(_NODE_READY, _START_SECONDS)

    def propose(self, product: str) -> Answers:
        """Let the bank propose its plan, to be started once every node has answered.

        returns   what the bank is told: hash, cost, expected accuracy
        """
        plan = self._folder / "plan.toml"
        plan.write_text(
            "\n".join(
                [
                    f"product = {json.dumps(product, ensure_ascii=False)}",
                    'view = "view.toml"',
                    f'definition = "{DEFINITION}"',
                    f"epsilon = {self._spec.request.epsilon!r}",
                    f'mode = "{self._spec.mode}"',
                    f'holdout = "{HOLDOUT}"',
                    *([] if self._spec.as_of is None else [f"as_of = {self._spec.as_of}"]),
                ]
            )
            + "\n",
            "utf-8",
        )
        return self._ask(BANK, "propose", "coordinator", "propose", str(plan), "--start")

    def approve(self, plan: str) -> None:
        """Wait until every node's policy has approved `plan`; RunError if one does not."""
        wanted = {node.id for node in self._spec.nodes}
        end = time.monotonic() + _ANSWER_SECONDS
        while silent := wanted - approved(self._bank_says(), plan):
            if time.monotonic() > end:
                raise self._not_approved(plan, min(silent))
            self._look_again()

    def train(self, plan: str, progress: Callable[[int], None]) -> float:
        """Wait for the plan's model; return the seconds from the first sum to the model.

        raises   RunError, which says why there is no model
        """
        end = time.monotonic() + _RUN_SECONDS
        while not DONE.search(said := self._bank_says()):
            rounds = ROUND.findall(said)
            progress(int(rounds[-1]) - 1 if rounds else 0)
            if FAILED.search(said):
                raise self._failed(plan)
            if time.monotonic() > end:
                raise RunError(
                    f"there is no model after {_RUN_SECONDS:.0f} s; see the logs.",
                    f"{_RUN_SECONDS:.0f} 秒后仍无模型;请查看日志。",
                )
            self._look_again()
        return seconds_of_run(said)

    def close(self) -> None:
        """Stop nodes and bank, in this order: what they log last is then logged."""
        nodes = [node.id for node in self._spec.nodes]
        for node in nodes:
            self._services[node].ask_to_stop()
        for member in (*nodes, BANK):
            self._services[member].stop()

    def export(self) -> None:
        """Export every member's ledgers and the regulator's part, then stop the regulator.

        The members mirror their last entries before they export.
        """
        folder = str(self.ledgers)
        bank = self._command(BANK, "export", "coordinator", "export", folder)
        nodes = [
            self._command(node.id, "export", "node", "export", folder) for node in self._spec.nodes
        ]
        self._supervisor.run_all([bank, *nodes])
        self._supervisor.run(self._command(REGULATOR, "export", "regulator", "export", folder))
        self._services[REGULATOR].stop()

    def verify(self) -> Answers:
        """Return the regulator's report on the exported ledgers, with `verified`.

        raises   RunError where verification could not be carried out at all
        """
        command = self._command(
            REGULATOR,
            "verify",
            *("regulator", "verify", str(self.ledgers), "--report", str(self.report), "--json"),
        )
        code, said = self._supervisor.attempt(command)
        if code not in (0, 1) or not said.strip():
            raise RunError(
                f"verification ended with code {code} and no report; see the log"
                f" {command.name}.log.",
                f"核验以代码 {code} 结束且无报告;请查看日志 {command.name}.log。",
            )
        return {**_object(said), "verified": code == 0}

    def charter(self) -> Answers:
        """Return the charter in force."""
        return self._ask(REGULATOR, "charter", "regulator", "charter", "show")

    def model(self) -> Answers:
        """Return the one model in the bank's registry."""
        listed = self._ask(BANK, "models", "coordinator", "models", "list")["models"]
        assert isinstance(listed, list)
        return self._ask(BANK, "model", "coordinator", "models", "show", str(listed[0]["model"]))

    def _init_bank(self) -> Command:
        return self._command(
            BANK,
            "init",
            *("coordinator", "init", "--member", BANK),
            *("--name-en", "Sandbox bank", "--name-zh", "沙箱银行"),
            *("--regulator-key", self._regulator_key),
        )

    def _init_node(self, node: NodeData) -> Command:
        low, high = size_band(len(node.codes))
        return self._command(
            node.id,
            "init",
            *("node", "init", "--member", node.id),
            *("--name-en", node.name.en, "--name-zh", node.name.zh),
            *("--regulator-key", self._regulator_key, "--size-band", f"{low}:{high}"),
            *("--grade", "core"),
            *("--approve-up-to", repr(epsilon(self._cap, self._spec.request.delta))),
        )

    def _load_node(self, member: str, view: Path, files: InputFiles) -> list[Command]:
        steps = (
            ("view", "install", str(view)),
            ("ingest", str(files.records), "--mapping", str(files.mapping)),
            ("authorisation", "import", str(files.authorisations)),
            ("labels", "load", str(files.labels), "--bank", BANK, "--definition", DEFINITION),
        )
        return [self._command(member, step[0], "node", *step) for step in steps]

    def _serve(self, member: str, role: str) -> str:
        service = self._supervisor.serve(
            member, [role, "serve", "--listen", "127.0.0.1:0"], self.home(member)
        )
        self._services[member] = service
        return service.wait_for(LISTENING, _START_SECONDS).group(1)

    def _command(self, member: str, name: str, *arguments: str) -> Command:
        return Command(f"{member}-{name}", arguments, self.home(member))

    def _ask(self, member: str, name: str, *arguments: str) -> Answers:
        """Run a command with --json and return the object that it prints."""
        return _object(self._supervisor.run(self._command(member, name, *arguments, "--json")))

    def _bank_says(self) -> str:
        return self._services[BANK].log.read_text("utf-8", errors="replace")

    def _look_again(self) -> None:
        self._supervisor.check()
        time.sleep(_LOOK_SECONDS)

    def _failed(self, plan: str) -> RunError:
        listed = self._ask(BANK, "plans", "coordinator", "plans")["plans"]
        assert isinstance(listed, list)
        reason = next(item["error"] for item in listed if item["digest"] == plan)
        log = self._services[BANK].log
        return RunError(
            f"the run failed: {reason or f'see {log}'}", f"运行失败:{reason or f'请查看 {log}'}"
        )

    def _not_approved(self, plan: str, node: str) -> RunError:
        shown = self._ask(node, "plan", "node", "plan", "show", plan)
        reasons = shown["problems"]
        said = ", ".join(map(str, reasons)) if isinstance(reasons, list) and reasons else "none"
        return RunError(
            f"{node} did not approve the plan within {_ANSWER_SECONDS:.0f} s (problems: {said}).",
            f"{node} 在 {_ANSWER_SECONDS:.0f} 秒内未批准方案(问题:{said})。",
        )


def seconds_of_run(said: str) -> float:
    """Return the seconds from the first round to the model, as the bank's log dates them."""
    times = [
        dt.datetime.fromisoformat(line.partition("=")[2].partition(" ")[0])
        for line in said.splitlines()
        if line.startswith("timestamp=") and (ROUND.search(line) or DONE.search(line))
    ]
    return (times[-1] - times[0]).total_seconds()


def approved(said: str, plan: str) -> set[str]:
    """Return the nodes whose approval of `plan` the bank's log tells of."""
    return set(re.findall(rf"event=answered\b.*?\bnode=(\S+) plan={plan[:16]} approved(?!=)", said))


def plans_cap(target: float, delta: float, *, spare: bool = True) -> Fraction:
    """Return the rho_cap for plans of `target` epsilon in all.

    spare   leave room for a spare round: it may cost as much as the hold-out sum, which is the
            dearest and costs as much as a plan without it
    """
    return (2 if spare else 1) * rho_for(target, delta)


def size_band(enterprises: int) -> tuple[int, int]:
    """Return the public band that a node declares: its size to one digit, down and up."""
    step = 10 ** (len(str(enterprises)) - 1)
    low = enterprises // step * step
    return low, low + step


def _object(said: str) -> Answers:
    answer: object = json.loads(said)
    if not isinstance(answer, dict):
        raise TypeError("a command with --json prints one object")
    return answer
