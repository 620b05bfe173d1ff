"""One of two processes that ask for the last of one node's budget: used by test_budget_race.

usage: race_process.py NODE_HOME MESSAGE [careless]
MESSAGE holds a query (pickled by the test). For each line of standard input, the monotonic time
at which to start, it answers that query and prints the outcome's code.
A careless one trusts what the account said before the write transaction: the planted fault.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection

from hejin_node import account
from hejin_node.checking import Checker
from hejin_node.home import open_home
from hejin_node.session import Session
from hejin_regulator.authority import Office
from hejin_regulator.mirror import Door, open_mirror
from hejin_trust.channels import PeerUnreachable
from hejin_trust.envelope import REFUSAL, open_envelope
from hejin_trust.mirroring import LogUpdate
from hejin_trust.witness import Witness


def no_receipt(run: str, number: int) -> bytes:
    raise PeerUnreachable("the bank does not answer", "银行没有应答")


class InTurn(Door):
    """The regulator's mirror, to which one process at a time may add."""

    def add(self, updates: Sequence[LogUpdate]) -> tuple[str, ...]:
        handle = os.open(self._mirror.engine.url.database + ".turn", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            return super().add(updates)
        finally:
            os.close(handle)


def make_careless() -> None:
    price = Checker.price
    seen: dict[str, account.Spending] = {}

    def once(self: Checker, connection: Connection, context: Any) -> account.Spending:
        # Step 1 asks first, the write transaction of step 2 second.
        first = seen.pop(context.query.run, None)
        if first is None:
            first = seen[context.query.run] = price(self, connection, context)
        return first

    Checker.price = once  # type: ignore[method-assign]


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if sys.argv[3:] == ["careless"]:
        make_careless()
    message = pickle.loads(Path(sys.argv[2]).read_bytes())
    with ExitStack() as stack, open_home(Path(sys.argv[1])) as home:
        office = Office(home.path.parent / "regulator")
        mirror = stack.enter_context(open_mirror(office))
        witness = Witness(home, InTurn(mirror, home.member_id))
        witness.start()
        session = Session(home, "bank-1", witness, no_receipt)
        print("ready", flush=True)
        for start in sys.stdin:
            time.sleep(max(0.0, float(start) - time.monotonic()))
            answer = session.answer(message)
            code = "masked"
            if answer["kind"] != b"masked":
                opened = open_envelope(
                    answer["refusal"], REFUSAL, home.identity.public, home.member_id
                )
                code = str(opened.body["code"])
            print(code, flush=True)


if __name__ == "__main__":
    main()
