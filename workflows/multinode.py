"""The nodes of multinode.yaml: the main one hands out blocks of numbers over a socket and gathers how many primes each has; the
others ask for a block, count, tell, and are given the next, until there is none left. A message is a line of JSON.

The death of another node changes nothing for a job (the main node's end is what counts): its block goes to the next who asks.
"""

import json
import os
import socket
import socketserver
import sys
import threading
import time

PORT = 7430
SIZE = 20_000  # numbers in a block


class Desk(socketserver.ThreadingTCPServer):
    """What is left to do, and what came of the rest."""

    daemon_threads = True
    request_queue_size = 1000

    def __init__(self, blocks: int) -> None:
        super().__init__((os.environ["FLOWBATCH_NODE_ADDRESS"], PORT), Conversation)
        self.changed = threading.Condition()
        self.left = list(range(blocks))
        self.primes: dict[int, int] = {}
        self.counted: dict[int, int] = {}  # blocks by node


class Conversation(socketserver.StreamRequestHandler):
    """With one node, on a thread of its own."""

    server: Desk

    def handle(self) -> None:
        desk, block = self.server, None
        try:
            for line in self.rfile:
                told = json.loads(line)
                with desk.changed:
                    if block is not None:
                        desk.primes[block] = told["primes"]
                        desk.counted[told["node"]] = desk.counted.get(told["node"], 0) + 1
                        desk.changed.notify()
                    block = desk.left.pop() if desk.left else None
                self.wfile.write(json.dumps(block).encode() + b"\n")
        except OSError:
            pass  # the node is gone in the middle of a word
        finally:
            if block is not None:
                with desk.changed:
                    desk.left.append(block)


def lead(blocks: int) -> None:
    with Desk(blocks) as desk:
        threading.Thread(target=desk.serve_forever, daemon=True).start()
        with desk.changed:
            desk.changed.wait_for(lambda: len(desk.primes) == blocks)
        desk.shutdown()
    print(f"{sum(desk.primes.values())} primes below {blocks * SIZE}")
    for node, count in sorted(desk.counted.items()):
        print(f"node {node} counted {count} blocks")


def count(node: int, address: str) -> None:
    with connected(address) as stream:
        answer = {"node": node, "primes": None}
        while True:
            stream.write(json.dumps(answer) + "\n")
            stream.flush()
            block = json.loads(stream.readline() or "null")
            if block is None:
                return
            answer["primes"] = primes_between(block * SIZE, (block + 1) * SIZE)


def connected(address: str):
    """The main node runs; that it listens already nobody has said."""
    for _ in range(100):
        try:
            return socket.create_connection((address, PORT), timeout=60).makefile("rw")
        except ConnectionRefusedError:
            time.sleep(0.1)
    sys.exit(f"nobody listens at {address}:{PORT}")


def primes_between(low: int, high: int) -> int:
    numbers = bytearray([1]) * high
    numbers[:2] = b"\0\0"
    for n in range(2, int(high**0.5) + 1):
        if numbers[n]:
            numbers[n * n :: n] = bytes(len(range(n * n, high, n)))
    return sum(numbers[low:])


if __name__ == "__main__":
    node = int(os.environ["AWS_BATCH_JOB_NODE_INDEX"])
    if node == int(os.environ["AWS_BATCH_JOB_MAIN_NODE_INDEX"]):
        lead(int(sys.argv[1]))
    else:
        count(node, os.environ["AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"])
