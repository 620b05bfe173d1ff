"""A gRPC server on the bank's certificate that says back what it is told, and nothing else.

Run as `python -m bench.echo BANK_FOLDER`; it ends when its standard input does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grpc

from hejin_coordinator.home import open_home
from hejin_trust.channels import bind, server, server_credentials

SERVICE, METHOD = "bench.Echo", "Echo"


def main() -> None:
    """Serve on any free port and print it."""
    with open_home(Path(sys.argv[1])) as home:
        membership, authority = home.membership, home.charter.ca_certificate
    echo = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    listening = server([], threads=4)
    handlers = grpc.method_handlers_generic_handler(SERVICE, {METHOD: echo})
    listening.add_generic_rpc_handlers((handlers,))
    credentials = server_credentials(membership.tls_key_pem, membership.certificate_pem, authority)
    print(bind(listening, "127.0.0.1:0", credentials), flush=True)  # noqa: T201 - our protocol
    listening.start()
    sys.stdin.read()
    listening.stop(None).wait()


if __name__ == "__main__":
    main()
