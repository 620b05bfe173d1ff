"""Certificates that count no more, at start and mid-run, before every method of the real servers.

The regulator and the bank serve over mutual TLS as their processes do; each attack is one of a
member of its own, on a connection that was good before wherever it can be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from flwr.proto import fleet_pb2
from node_world import BANK, World, found_world
from serving import serving

from hejin.v1 import certificates_pb2, charter_pb2, coordinator_pb2, labels_pb2, witness_pb2
from hejin_coordinator import config as bank_config
from hejin_coordinator import service as bank_service
from hejin_node import config as node_config
from hejin_node import service as node_service
from hejin_regulator import service as regulator_service
from hejin_trust import channels, membership
from hejin_trust.certificates import CertificateError, check_certificate
from hejin_trust.channels import PeerRefused, PeerUnreachable, asking, dial, fetch_charter
from hejin_trust.checkpoint import sign_checkpoint
from hejin_trust.membership import Membership
from hejin_trust.merkle import root_of
from hejin_trust.mirroring import LogUpdate
from hejin_trust.settings import write_settings
from hejin_trust.text import Text
from hejin_trust.witness_channel import WitnessChannel

REGULATOR = "regulator"


def methods(*modules: Any) -> list[str]:
    """Return the path of every method of the services that these generated modules define."""
    return [
        f"/{service.full_name}/{method.name}"
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


METHODS = {
    REGULATOR: methods(charter_pb2, certificates_pb2, witness_pb2),
    BANK: methods(coordinator_pb2, labels_pb2, fleet_pb2),
}
"""Whose server has which methods."""


@dataclass
class Standing:
    """A consortium whose regulator and bank serve; node-1 is honest and stays so."""

    world: World
    ports: dict[str, int]
    shift: timedelta = timedelta(0)
    _numbers: list[str] = field(default_factory=list)

    def admit(self, role: str = "node", name: str | None = None, at: datetime | None = None) -> str:
        """Found and admit one more member, or renew `name`; return its name.

        at   when its certificate was made
        """
        office, folder = self.world.office, self.world.folder
        if name is None:
            name = f"{role}-{100 + len(self._numbers)}"
            self._numbers.append(name)
            membership.found(
                folder / name,
                member=name,
                role="node" if role == "node" else "bank",
                name=Text(name, name),
                size_band=(10, 1000) if role == "node" else None,
            )
        self.issue(name, at or self.world.clock())
        self.world.bank.charters.update(office.charters.signed())
        return name

    def issue(self, name: str, at: datetime) -> None:
        """Give a member the certificate that the regulator would have made then."""
        world, key = self.world, self.world.office.identity.public
        (admitted,) = world.office.admit(
            [world.folder / name / "request.json"], world.folder / "admissions", at
        )
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(membership, "now", lambda: at)
            membership.join(world.folder / name, name, key, admitted.file.read_bytes())

    def member(self, name: str) -> Membership:
        charter = self.world.office.charter
        role = charter.member(name).role
        home = self.world.folder / name
        return membership.load(home, name, role, self.world.office.identity.public)

    def dial(self, server: str, me: Membership) -> grpc.Channel:
        charter = self.world.office.charter
        expected = charter.regulator if server == REGULATOR else charter.member(server)
        address = f"127.0.0.1:{self.ports[server]}"
        # What the caller itself believes of the other side is not what is tested here.
        return dial(address, expected, charter, me.tls_key_pem, me.certificate_pem)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        world = found_world(tmp_path_factory.mktemp("standing"))
        made = Standing(world, {})
        # The servers' clock, as it looks at certificates: a year can pass in the midst of a call.
        patch.setattr(
            channels, "check_certificate", lambda pem, at: check_certificate(pem, at + made.shift)
        )
        made.ports[REGULATOR] = stack.enter_context(
            serving(regulator_service.serve, world.office.home)
        )
        settings = bank_config.CoordinatorSettings(
            member=BANK,
            regulator_key=world.office.identity.public.hex(),
            regulator=f"127.0.0.1:{made.ports[REGULATOR]}",
        )
        write_settings(world.folder / BANK / bank_config.FILE, settings)
        made.ports[BANK] = stack.enter_context(serving(bank_service.serve, world.folder / BANK))
        yield made


@pytest.fixture(autouse=True)
def the_others_are_served_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """An attack harms nobody else: node-1 gets its charter before and after."""
    if "standing" not in request.fixturenames:
        yield
        return
    standing: Standing = request.getfixturevalue("standing")
    yield
    standing.shift = timedelta(0)
    with standing.dial(REGULATOR, standing.member("node-1")) as channel:
        assert fetch_charter(channel, REGULATOR, 5.0)


def call(channel: grpc.Channel, method: str, request: bytes = b"") -> bytes:
    """Call any method with any bytes; raises PeerRefused, PeerUnreachable."""
    with asking("server"):
        answer: bytes = channel.unary_unary(method, None, None)(request, timeout=10)
    return answer


def code_of(channel: grpc.Channel, method: str) -> str:
    with pytest.raises(PeerRefused) as refused:
        call(channel, method)
    return refused.value.peer_code


def probe(standing: Standing, server: str, channel: grpc.Channel) -> None:
    """Make a call that an admitted node may make: the connection is good until now."""
    if server == REGULATOR:
        assert fetch_charter(channel, REGULATOR, 5.0)
    else:
        call(channel, "/hejin.v1.PlanService/ListOffers")


Spoil = Callable[[Standing, str], None]


def revoke(standing: Standing, name: str) -> None:
    standing.world.office.revoke(name, standing.world.clock())
    standing.world.bank.charters.update(standing.world.office.charters.signed())


def renew(standing: Standing, name: str) -> None:
    standing.admit(name=name)


def a_year_passes(standing: Standing, _: str) -> None:
    standing.shift = timedelta(days=366)


def an_hour_back(standing: Standing, _: str) -> None:
    standing.shift = timedelta(hours=-1)


SPOILS: dict[str, tuple[Spoil, str]] = {
    "revoked": (revoke, "no-peer"),
    "replaced by a newer one": (renew, "no-peer"),
    "expired": (a_year_passes, "bad-certificate"),
    "not yet valid by the server's clock": (an_hour_back, "bad-certificate"),
}


@pytest.mark.parametrize("server", METHODS)
@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_a_certificate_that_ends_mid_run_ends_every_call_of_the_open_connection(
    standing: Standing, server: str, spoil: tuple[Spoil, str]
) -> None:
    end, code = spoil
    name = standing.admit()
    with standing.dial(server, standing.member(name)) as channel:
        probe(standing, server, channel)
        end(standing, name)
        assert {method: code_of(channel, method) for method in METHODS[server]} == dict.fromkeys(
            METHODS[server], code
        )


def test_a_bank_s_certificate_does_not_serve_in_a_node_s_role(standing: Standing) -> None:
    """Not another bank's, and not the bank's own."""
    for name in (standing.admit("bank"), BANK):
        with standing.dial(BANK, standing.member(name)) as channel:
            found = {method: code_of(channel, method) for method in METHODS[BANK]}
        assert found == dict.fromkeys(METHODS[BANK], "not-allowed")


def test_the_regulator_s_own_certificate_calls_nobody(standing: Standing) -> None:
    key, certificate = standing.world.office.tls()
    charter = standing.world.office.charter
    for server, member in ((REGULATOR, charter.regulator), (BANK, charter.member(BANK))):
        address = f"127.0.0.1:{standing.ports[server]}"
        with dial(address, member, charter, key, certificate) as channel:
            found = {method: code_of(channel, method) for method in METHODS[server]}
        assert found == dict.fromkeys(METHODS[server], "not-allowed")


@pytest.mark.parametrize("server", METHODS)
def test_a_certificate_that_expired_before_it_calls_does_not_even_connect(
    standing: Standing, server: str
) -> None:
    name = standing.admit(at=standing.world.clock() - timedelta(days=366))
    with standing.dial(server, standing.member(name)) as channel:
        for method in METHODS[server]:
            with pytest.raises(PeerUnreachable):
                call(channel, method)


@pytest.mark.parametrize("server", METHODS)
def test_a_member_of_another_consortium_of_the_same_names_does_not_connect(
    standing: Standing, server: str, tmp_path: Path
) -> None:
    stranger = found_world(tmp_path / "elsewhere")
    key = stranger.office.identity.public
    me = membership.load(stranger.nodes["node-1"], "node-1", "node", key)
    with standing.dial(server, me) as channel:
        for method in METHODS[server]:
            with pytest.raises(PeerUnreachable):
                call(channel, method)


def test_a_node_that_is_revoked_mid_run_has_nothing_more_mirrored(standing: Standing) -> None:
    """What it sends is honest and signed; only its admission has ended."""
    name = standing.admit()
    me = standing.member(name)
    origin = f"hejin/test/node/{name}"
    empty = LogUpdate(origin, 0, (), (), sign_checkpoint(origin, 0, root_of([]), me.log_key))
    with standing.dial(REGULATOR, me) as channel:
        mirror = WitnessChannel(channel, REGULATOR)
        assert len(mirror.add([empty])) == 1
        revoke(standing, name)
        for ask in (
            mirror.standing,
            lambda: mirror.add([empty]),
            lambda: mirror.entries(origin, 0),
        ):
            with pytest.raises(PeerRefused) as refused:
                ask()
            assert refused.value.peer_code == "no-peer"


NONSENSE = [
    pytest.param(b"\xff" * 1000, id="no-message"),
    pytest.param(b"\x0a\xff\xff\xff\xff\x0f", id="a-length-beyond-the-bytes"),
    pytest.param(b"\x0b" * 100_000, id="groups-in-groups"),
    pytest.param(b"\x0a\x02\xff\xfe", id="a-text-that-is-none"),
]


@pytest.mark.parametrize("server", METHODS)
@pytest.mark.parametrize("request_bytes", NONSENSE)
def test_bytes_that_are_no_message_change_nothing_and_stop_nobody(
    standing: Standing, server: str, request_bytes: bytes
) -> None:
    """An admitted member sends them; what has no fields may read them as none."""
    name = standing.admit()
    held = standing.world.mirror.standing(standing.world.office.charter.member(name))
    with standing.dial(server, standing.member(name)) as channel:
        for method in METHODS[server]:
            with suppress(PeerRefused, PeerUnreachable):
                call(channel, method, request_bytes)
        probe(standing, server, channel)
    assert standing.world.mirror.standing(standing.world.office.charter.member(name)) == held
    assert {log.size for log in held} == {0}


def test_every_service_that_is_defined_is_attacked_here() -> None:
    folder = Path(witness_pb2.__file__).parent
    defined = {
        line.split()[1]
        for file in folder.glob("*.proto")
        for line in file.read_text().splitlines()
        if line.startswith("service ")
    }
    attacked = {
        path.split("/")[1].rpartition(".")[2] for paths in METHODS.values() for path in paths
    }
    assert attacked == defined | {"Fleet"}
    listed = {prefix.strip("/") for prefix in (*regulator_service.ROLES, *bank_service.ROLES)}
    assert {name.rpartition(".")[2] for name in listed} == attacked


# -- at start ----------------------------------------------------------------------------------


@pytest.fixture
def expired(tmp_path: Path) -> World:
    """A consortium whose node's and bank's certificates have expired."""
    world = found_world(tmp_path)
    made = Standing(world, {})
    past = world.clock() - timedelta(days=366)
    key = world.office.identity.public.hex()
    for name in (BANK, "node-1"):
        made.issue(name, past)
    write_settings(
        tmp_path / BANK / bank_config.FILE,
        bank_config.CoordinatorSettings(member=BANK, regulator_key=key, regulator="127.0.0.1:1"),
    )
    write_settings(
        tmp_path / "node-1" / node_config.FILE,
        node_config.NodeSettings(member="node-1", regulator_key=key, regulator="127.0.0.1:1"),
    )
    return world


def never(*_: object) -> None:
    raise AssertionError("it serves")


START: dict[str, Callable[[Path, threading.Event], None]] = {
    "node-1": lambda home, stop: node_service.serve(home, never, stop),
    BANK: lambda home, stop: bank_service.serve(home, "127.0.0.1:0", never, stop),
}


@pytest.mark.parametrize("member", START)
def test_a_member_whose_certificate_has_expired_says_so_and_does_not_start(
    expired: World, member: str
) -> None:
    stop = threading.Event()
    # Without a word it would wait for a regulator that does not let it in.
    late = threading.Timer(20, stop.set)
    late.start()
    try:
        with pytest.raises(CertificateError, match=r"expired at .* ask the regulator") as reason:
            START[member](expired.folder / member, stop)
    finally:
        late.cancel()
    assert reason.value.code == "bad-certificate"
