"""Who floods a line in `benchmarks.flood`, in a process of its own: ZeroMQ's and plain sockets."""

import subprocess
import sys
from typing import Self

QUIET, KINDS = "spin", ("pages", "unread", "junk", "wire", "storm")
_FLOODER = """
import hashlib, os, socket, sys, threading, zmq
endpoint, core = sys.argv[1:]
os.sched_setaffinity(0, {int(core)})
host, port = endpoint.removeprefix("tcp://").split(":")
context = zmq.Context()
context.linger = 0


def dealers(reads):
    sockets = [context.socket(zmq.DEALER) for _ in range(8)]
    for each in sockets:
        each.rcvhwm = 1000 if reads else 1
        each.connect(endpoint)
    return sockets


def asking(request, reads):
    sockets = dealers(reads)
    try:
        while True:
            for each in sockets:
                try:
                    each.send(request, zmq.DONTWAIT)
                except zmq.Again:
                    pass
                while reads and each.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                    each.recv_multipart(copy=False)
            yield
    finally:
        for each in sockets:
            each.close()


def wire():
    while True:
        with socket.socket() as raw:
            raw.setblocking(False)
            try:
                raw.connect((host, int(port)))
            except BlockingIOError:
                pass
            for _ in range(50):
                try:
                    raw.send(os.urandom(1000))
                except OSError:
                    pass
                yield


def storm():
    while True:
        with context.socket(zmq.DEALER) as each:
            each.connect(endpoint)
            each.send(b'{"since": 0}')
            each.poll(2)
        yield


quiet, block = threading.Event(), bytes(1 << 24)


def spin_beside():
    while True:
        quiet.wait()
        hashlib.sha256(block)  # without Python's lock, as the thread of ZeroMQ that a flood keeps busy


def spin():
    quiet.set()
    try:
        while True:
            sum(range(1000))
            yield
    finally:
        quiet.clear()


threading.Thread(target=spin_beside, daemon=True).start()


KINDS = {
    "spin": spin,
    "pages": lambda: asking(b'{"since": 0}', True),
    "unread": lambda: asking(b'{"since": 0}', False),
    "junk": lambda: asking(b"x" * 4000, True),
    "wire": wire,
    "storm": storm,
}
os.set_blocking(0, False)
parent, kind = os.getppid(), spin()
next(kind)
print("ready", flush=True)
while os.getppid() == parent:
    wanted = sys.stdin.readline()
    if wanted:
        kind.close()
        kind = KINDS[wanted.strip()]()
    for _ in range(200):
        next(kind)
"""


class Flooder:
    """A process on a core of its own, which spins until it is told a kind of flood."""

    def __init__(self, endpoint: str, core: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FLOODER, endpoint, str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def turn_to(self, kind: str) -> None:
        """From now on."""
        assert self._process.stdin is not None
        print(kind, file=self._process.stdin, flush=True)
