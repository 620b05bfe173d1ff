"""Is the server of this folder well? One mutual TLS handshake and the first HTTP/2 frame.

Run inside the container as `python health.py HOST:PORT`; exit code 0: well. Standard library only,
some 60 ms. It says yes only if the server answers with this member's own certificate, that is in
date and under the charter's CA, and takes the same certificate from us, as it does from a peer.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import sys
from pathlib import Path

SECONDS = 5.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SETTINGS = 4  # RFC 9113, section 6.5: the first frame that each side sends


def check(home: Path, host: str, port: int) -> None:
    """Raise OSError or ValueError if the server at host:port is not the one of `home`, or ill."""
    charter = json.loads((home / "charter.json").read_bytes())
    body = json.loads(base64.b64decode(charter["payload"]))
    own = home / "tls.pem"
    context = ssl.create_default_context(cadata=body["ca_certificate"])
    context.check_hostname = False  # compared with our own certificate instead
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(own, home / "keys" / "tls.key")
    with (
        socket.create_connection((host, port), SECONDS) as plain,
        context.wrap_socket(plain) as channel,
    ):
        if channel.getpeercert(binary_form=True) != ssl.PEM_cert_to_DER_cert(own.read_text()):
            raise ValueError("another server answers on this port")
        channel.sendall(PREFACE)
        frame = channel.recv(9)
        if len(frame) < 4 or frame[3] != SETTINGS:
            raise ValueError("the server does not speak HTTP/2 to us")


def main() -> int:
    """Return the exit code."""
    host, _, port = sys.argv[1].rpartition(":")
    try:
        check(Path(os.environ["HEJIN_HOME"]), host, int(port))
    except (OSError, ValueError, KeyError) as reason:
        print(f"not well: {type(reason).__name__}: {reason}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
