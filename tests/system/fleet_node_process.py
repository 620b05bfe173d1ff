"""A node process for engine tests: FleetLoop over mTLS with an answer that only echoes.

usage: fleet_node_process.py KEY_PEM CERTIFICATE_PEM CA_PEM HOST:PORT SERVER_NAME
Prints "ready" and then the key of every question it answers; runs until stdin closes.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import grpc

from hejin_node.engine import FleetLoop
from hejin_trust.fleet import Payload


def main() -> None:
    key, certificate, authority = (Path(name).read_bytes() for name in sys.argv[1:4])
    channel = grpc.secure_channel(
        sys.argv[4],
        grpc.ssl_channel_credentials(authority, key, certificate),
        [
            ("grpc.ssl_target_name_override", sys.argv[5]),
            ("grpc.max_receive_message_length", 64 << 20),
            ("grpc.max_send_message_length", 64 << 20),
        ],
    )

    def answer(payload: Payload) -> Payload:
        print("answered", *sorted(payload), flush=True)
        return {"kind": b"masked", "vector": payload.get("vector", b"")}

    stop = threading.Event()
    loop = threading.Thread(target=FleetLoop(channel, answer, 0.05).run, args=(stop,))
    loop.start()
    print("ready", flush=True)
    sys.stdin.read()
    stop.set()
    loop.join()
    channel.close()


main()
