"""Ranks with every backend, watched: python quiet_process.py MODEL. Prints the hosts that Python code reached for."""

import socket
import sys

reached = []


def watch(name):
    original = getattr(socket.socket, name)

    def watched(self, address):
        reached.append(f"{name} {address!r}")
        return original(self, address)

    setattr(socket.socket, name, watched)


watch("connect")
watch("connect_ex")
resolve = socket.getaddrinfo


def resolved(host, *rest, **options):
    reached.append(f"getaddrinfo {host!r}")
    return resolve(host, *rest, **options)


socket.getaddrinfo = resolved


def main():
    import time

    from gliclass_rerank import Reranker

    for backend, dtype in (
        (None, "float32"),
        ("onnx", "float32"),
        ("onnx", "int8"),
        ("openvino", "float32"),
        ("openvino", "int8"),
    ):
        ranking = Reranker(sys.argv[1], device="cpu", backend=backend, dtype=dtype).rank("oil", ["chain", "rust"])
        assert len(ranking) == 2
    time.sleep(1)  # what is sent is sent from other threads and processes
    sys.stdout.write(f"{reached}\n")


if __name__ == "__main__":
    main()
