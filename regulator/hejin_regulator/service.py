"""What the regulator serves to admitted members: charter, certificate status, and the witness."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc
import structlog

from hejin.v1 import (
    certificates_pb2,
    certificates_pb2_grpc,
    charter_pb2,
    charter_pb2_grpc,
    witness_pb2_grpc,
)
from hejin_regulator.authority import Office
from hejin_regulator.mirror import LogMirror, open_mirror
from hejin_regulator.mirror_check import check_newest
from hejin_regulator.witness_rules import MOST_BYTES
from hejin_regulator.witness_service import WitnessServicer
from hejin_trust.canonical import time_text
from hejin_trust.certificates import check_certificate
from hejin_trust.channels import (
    PeerInterceptor,
    bind,
    peer_of,
    refusals,
    server,
    server_credentials,
)
from hejin_trust.charter import CharterSource
from hejin_trust.clock import now
from hejin_trust.files import held
from hejin_trust.members import Role

ROLES: Final[dict[str, frozenset[Role]]] = {
    "/hejin.v1.CharterService/": frozenset({"node", "bank"}),
    "/hejin.v1.CertificateService/": frozenset({"node", "bank"}),
    "/hejin.v1.WitnessService/": frozenset({"node", "bank"}),
}
"""Who may call what at the regulator."""

THREADS: Final = 64
"""Calls served at the same time: eight members can wait in vain with all that one may."""

LARGEST_MESSAGE: Final = MOST_BYTES + (1 << 20)
"""Bytes: entries, and what else belongs to them."""

GRACE: Final = 2.0
"""Seconds that calls under way get to finish when the server stops."""
WAKE: Final = 0.5
"""Seconds between looks at `stop`: a signal that arrives just before the main thread blocks
is only handled when it wakes (seen once: the process slept through SIGTERM)."""

_log = structlog.get_logger(__name__)


class CharterServicer(charter_pb2_grpc.CharterServiceServicer):
    """Hands out the charter envelope; re-read whenever the file changes."""

    def __init__(self, charters: CharterSource) -> None:
        self._charters = charters

    def GetCharter(  # noqa: N802 - name fixed by charter.proto
        self,
        request: charter_pb2.GetCharterRequest,  # noqa: ARG002 - it has no fields
        context: grpc.ServicerContext,
    ) -> charter_pb2.GetCharterResponse:
        """Return the envelope as the regulator signed it."""
        with refusals(context):
            signed = self._charters.signed()
        _log.info("charter given", member=peer_of(context).id)
        return charter_pb2.GetCharterResponse(envelope=signed)


class CertificateServicer(certificates_pb2_grpc.CertificateServiceServicer):
    """Hands out the certificate status list, made and signed anew for each caller."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def GetStatus(  # noqa: N802 - name fixed by certificates.proto
        self,
        request: certificates_pb2.GetStatusRequest,  # noqa: ARG002 - it has no fields
        context: grpc.ServicerContext,
    ) -> certificates_pb2.GetStatusResponse:
        """Return the signed list as of now."""
        with refusals(context):
            _, signed = self._office.certificate_status(now())
        _log.info("certificate status given", member=peer_of(context).id)
        return certificates_pb2.GetStatusResponse(envelope=signed)


def serve(
    home: Path, address: str, listening: Callable[[int], None], stop: threading.Event
) -> None:
    """Serve until `stop` is set.

    address     HOST:PORT, port 0 for any free one
    listening   called with the bound port as soon as calls are answered
    raises      HeldError if another process serves from `home`, PortTakenError, CharterError,
                CertificateError if the own certificate has expired, StorageError,
                MirrorDamagedError
    """
    office = Office(home)
    with held(home), open_mirror(office, steady=time.monotonic) as mirror:
        check_newest(mirror)
        _serve(office, mirror, address, listening, stop)


def _serve(
    office: Office,
    mirror: LogMirror,
    address: str,
    listening: Callable[[int], None],
    stop: threading.Event,
) -> None:
    charter = office.charter
    key, certificate = office.tls()
    check_certificate(certificate, now())
    grpc_server = server([PeerInterceptor(office.charters, ROLES)], THREADS, LARGEST_MESSAGE)
    charter_pb2_grpc.add_CharterServiceServicer_to_server(  # type: ignore[no-untyped-call]
        CharterServicer(office.charters), grpc_server
    )
    certificates_pb2_grpc.add_CertificateServiceServicer_to_server(  # type: ignore[no-untyped-call]
        CertificateServicer(office), grpc_server
    )
    witness_pb2_grpc.add_WitnessServiceServicer_to_server(  # type: ignore[no-untyped-call]
        WitnessServicer(mirror), grpc_server
    )
    port = bind(grpc_server, address, server_credentials(key, certificate, charter.ca_certificate))
    grpc_server.start()
    _log.info(
        "regulator serves",
        consortium=charter.consortium,
        charter=charter.serial,
        port=port,
        clock=time_text(now()),
    )
    try:
        listening(port)
        while not stop.wait(WAKE):
            pass
    finally:
        grpc_server.stop(GRACE).wait()
        _log.info("regulator stopped")
