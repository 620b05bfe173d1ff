"""A bank and nodes as processes over mutual TLS, from homes that one process has prepared."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from bank_world import Bank, export_all, open_world
from fault_proxy import FaultProxy
from member_process import Start, start
from node_world import BANK

from hejin_coordinator import config as bank_config
from hejin_coordinator import desk
from hejin_coordinator.home import open_home as open_bank
from hejin_node import config as node_config
from hejin_node.home import open_home as open_node
from hejin_regulator.authority import Office
from hejin_regulator.findings import Verification
from hejin_regulator.mirror import open_mirror
from hejin_regulator.verify import verify_export
from hejin_trust.files import replace_file
from hejin_trust.settings import read_settings, write_settings

REGULATOR = "regulator"
SECONDS = 240.0  # longest wait for anything; a loaded machine is slow
LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")


@dataclass
class Members:
    """Their folders and their processes; leaving the context kills what still runs.

    links   the proxy between each node and the bank, where `start_all` put one there
    """

    folder: Path
    nodes: tuple[str, ...]
    regulator_key: bytes
    plan: str
    addresses: dict[str, str] = field(default_factory=dict)
    plants: dict[str, Callable[[Path], None]] = field(default_factory=dict)
    processes: dict[str, ForkServerProcess] = field(default_factory=dict)
    links: dict[str, FaultProxy] = field(default_factory=dict)
    _proxies: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.processes.values():
            process.kill()
            process.join()
        self._proxies.close()

    def armed(self, member: str) -> Path:
        return self.folder / f"{member}.armed"

    def sent(self, node: str) -> Path:
        return self.folder / f"{node}.sent"

    def sums(self, node: str) -> Path:
        """Where a node's process keeps each noisy sum before it is masked: ROUND_CTX.npy."""
        return self.folder / f"{node}.sums"

    def log(self, member: str) -> Path:
        return self.folder / f"{member}.log"

    def said(self, member: str) -> str:
        log = self.log(member)
        return log.read_text("utf-8") if log.exists() else ""

    def arm(self, member: str, step: str, times: int = 1) -> None:
        """Let the member's process be killed when it reaches `step` for the `times`-th time."""
        replace_file(self.armed(member), f"{step}\n{times}".encode())

    def start(self, member: str) -> None:
        """Start a member; bank and regulator listen where they did before."""
        self.processes[member] = start(
            Start(
                role={BANK: "coordinator", REGULATOR: "regulator"}.get(member, "node"),
                home=self.folder / member,
                log=self.log(member),
                armed=self.armed(member),
                sent=self.sent(member),
                sums=self.sums(member),
                address=self.addresses.get(member, "127.0.0.1:0"),
                plant=self.plants.get(member),
            )
        )

    def start_all(self, *, proxied: bool = False) -> None:
        """Start regulator and bank, tell the others where they listen, start the nodes.

        proxied   every node dials a fault proxy of its own, `links[node]`, instead of the bank;
                  TLS checks the bank's name, not its address
        """
        self._listen(REGULATOR)
        regulator = self.addresses[REGULATOR]
        file = self.folder / BANK / bank_config.FILE
        own = read_settings(file, bank_config.CoordinatorSettings)
        write_settings(file, own.model_copy(update={"regulator": regulator}))
        self._listen(BANK)
        for node in self.nodes:
            file = self.folder / node / node_config.FILE
            settings = read_settings(file, node_config.NodeSettings)
            address = self.addresses[BANK]
            if proxied:
                self.links[node] = self._proxies.enter_context(FaultProxy(address))
                address = self.links[node].address
            known = {"banks": {BANK: address}, "regulator": regulator}
            write_settings(file, settings.model_copy(update=known))
            self.start(node)

    def _listen(self, member: str) -> None:
        self.start(member)
        self.addresses[member] = self.wait_for(member, LISTENING).group(1)

    def wait_for(self, member: str, pattern: re.Pattern[str]) -> re.Match[str]:
        """Return the first match in what a member says."""
        end = time.monotonic() + SECONDS
        while not (found := pattern.search(self.said(member))):
            assert time.monotonic() < end, f"{member} never said {pattern.pattern}: {self.tails()}"
            time.sleep(0.05)
        return found

    def wait_for_death(self, member: str) -> None:
        """Wait until the member's process was killed at the step it was armed with."""
        process = self.processes[member]
        process.join(SECONDS)
        assert process.exitcode == -9, f"{member} ended with {process.exitcode}: {self.tails()}"
        assert not self.armed(member).exists()

    def stop(self, member: str) -> None:
        """End a member as an operator does."""
        process = self.processes.pop(member)
        process.terminate()
        process.join(SECONDS)
        assert process.exitcode == 0, self.tails()

    def stop_all(self) -> None:
        for member in (*self.nodes, BANK, REGULATOR):
            self.stop(member)

    def tails(self) -> str:
        return "".join(
            f"\n--- {member}\n{self.said(member)[-3000:]}"
            for member in (REGULATOR, BANK, *self.nodes)
        )

    def export(self) -> Path:
        """Mirror what is new of every member's ledgers, export them; return the folder."""
        folder, office = self.folder / "export", Office(self.folder / REGULATOR)
        with ExitStack() as stack:
            export_all(
                folder,
                office,
                stack.enter_context(open_mirror(office)),
                stack.enter_context(open_bank(self.folder / BANK)),
                [stack.enter_context(open_node(self.folder / node)) for node in self.nodes],
            )
        return folder

    def verify(self) -> Verification:
        """Return what the regulator finds in a fresh export."""
        return verify_export(self.export(), self.regulator_key)


def prepared(
    folder: Path,
    *,
    nodes: int = 3,
    firms: int = 400,
    minimum_nodes: int = 2,
    plant: Callable[[Bank], None] = lambda _: None,
    **plan: object,
) -> Members:
    """Return a consortium with a started plan, all homes closed.

    plant    adds to the nodes' data before the plan is made
    plan     more of the plan file's keys
    """
    with ExitStack() as stack:
        bank = open_world(folder, stack, nodes=nodes, firms=firms)
        plant(bank)
        digest = bank.propose(
            **{
                "epsilon": 20.0,
                "minimum_nodes": minimum_nodes,
                "deadlines": {"masked": int(SECONDS)},
                **plan,
            }
        )
        desk.start(bank.home, digest)
        key = bank.world.office.identity.public
    write_settings(
        folder / BANK / bank_config.FILE,
        bank_config.CoordinatorSettings(member=BANK, regulator_key=key.hex(), reissue_seconds=1.0),
    )
    return Members(folder, tuple(bank.nodes), key, digest)
