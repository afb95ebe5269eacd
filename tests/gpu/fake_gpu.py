"""A GPU made of this machine's memory and processor: kernels compiled as C++, streams that run in any order allowed."""

import ctypes
import hashlib
import random
import subprocess
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edge.core.gpu import Address, Event, GpuError, Graph, Kernel, Stream
from edge.core.types import U8

SHIM = Path(__file__).with_name("shim.h")
COMPILE = ("g++", "-x", "c++", "-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-unused-function")

_LIBC = ctypes.CDLL(None)
_LIBC.posix_memalign.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
_LIBC.free.argtypes = (ctypes.c_void_p,)


def compiled(source: str, folder: Path, *flags: str) -> Path:
    """A shared library with `run_NAME(arguments, grid_x, grid_y, block)` for each kernel of a CUDA source."""
    names = [line.split("void ")[1].split("(")[0] for line in source.splitlines() if "__global__ void" in line]
    runs = [
        f'extern "C" void run_{name}(const void *a, unsigned x, unsigned y, unsigned b) '
        f"{{ launch({name}, a, x, y, b); }}"
        for name in names
    ]
    text = "\n".join([SHIM.read_text(), source, *runs])
    library = folder / f"{hashlib.sha256((text + repr(flags)).encode()).hexdigest()[:16]}.so"
    if not library.exists():
        command = [*COMPILE, *flags, "-shared", "-fPIC", "-o", str(library), "-"]
        subprocess.run(command, input=text.encode(), check=True)
    return library


def at_once() -> bool:
    return True


class FakeGpu:
    """A `Driver`. What is put into streams is done late, and in an order drawn at random among those that streams and
    events allow: who forgets to wait gets what the memory held before. Nothing is zero that nobody has written.

    `faults`: the number of the call, by its name, with which the GPU fails.
    """

    gpu, capability, version = "fake", 86, "13.0"

    def __init__(self, folder: Path, seed: int = 0, faults: Mapping[str, int] | None = None) -> None:
        self._folder, self._random, self._faults = folder, random.Random(seed), dict(faults or {})
        self._memory: list[U8] = []
        self._streams: dict[Stream, deque[tuple[Callable[[], bool], Callable[[], None]]]] = {}
        self._recorded: Counter[Event] = Counter()
        self._come: Counter[Event] = Counter()
        self._kernels: dict[Kernel, object] = {}
        self._capturing: dict[Stream, list[Callable[[], None]]] = {}
        self._graphs: list[list[Callable[[], None]]] = []
        self.calls: Counter[str] = Counter()
        self.failed = self.closed = False
        self.bytes_up = self.bytes_down = self.most_under_way = 0

    def called(self, name: str) -> None:
        assert not self.closed, "used after it was closed"
        assert not self.failed, "used after it had failed"
        self.calls[name] += 1
        if self.calls[name] == self._faults.get(name):
            self.failed = True
            raise GpuError(f"the GPU failed (scripted, in {name})")

    def _new(self, size: int) -> U8:
        """Just so many bytes: who goes beyond them is seen by a sanitizer."""
        there = ctypes.c_void_p()
        assert _LIBC.posix_memalign(ctypes.byref(there), 64, size) == 0
        buffer = (ctypes.c_uint8 * size).from_address(there.value)
        weakref.finalize(buffer, _LIBC.free, there)
        self._memory.append(np.frombuffer(buffer, np.uint8))
        self._memory[-1].fill(0xFF)  # as a float no number
        return self._memory[-1]

    def at(self, address: Address, size: int) -> U8:
        """Device memory, which must have been allocated."""
        for memory in self._memory:
            begin = memory.ctypes.data
            if begin <= address and address + size <= begin + memory.size:
                return memory[address - begin : address - begin + size]
        raise AssertionError(f"{size} bytes at {address:#x} were never allocated")

    def allocate(self, size: int) -> Address:
        self.called("allocate")
        return self._new(size).ctypes.data

    def pinned(self, size: int) -> U8:
        self.called("pinned")
        return self._new(size)

    def stream(self) -> Stream:
        self._streams[len(self._streams) + 1] = deque()
        return len(self._streams)

    def event(self) -> Event:
        return 1000 + self.calls["event"] + (self.calls.update(event=1) or 0)

    def put(self, stream: Stream, work: Callable[[], None], ready: Callable[[], bool] = at_once) -> None:
        """Into a stream: also what libraries with kernels of their own do."""
        if stream in self._capturing:
            assert ready is at_once, "who waits for another stream while it is captured captures that as well"
            self._capturing[stream].append(work)
            return
        self._streams[stream].append((ready, work))
        self.most_under_way = max(self.most_under_way, sum(bool(queue) for queue in self._streams.values()))

    def record(self, event: Event, stream: Stream) -> None:
        self.called("record")
        self._recorded[event] += 1
        number = self._recorded[event]
        self.put(stream, lambda: self._come.update({event: number - self._come[event]}))

    def wait(self, stream: Stream, event: Event) -> None:
        self.called("wait")
        number = self._recorded[event]
        self.put(stream, lambda: None, lambda: self._come[event] >= number)

    def synchronise(self, event: Event) -> None:
        self.called("synchronise")
        while self._come[event] < self._recorded[event]:
            assert self._step(), "nothing can go on: streams wait for each other"

    def has_come(self, event: Event) -> bool:
        """As much has been done as chance will have it."""
        self.called("has_come")
        for _ in range(self._random.randrange(20)):
            if not self._step():
                break
        return self._come[event] >= self._recorded[event]

    def _step(self) -> bool:
        ready = [queue for queue in self._streams.values() if queue and queue[0][0]()]
        if ready:
            self._random.choice(ready).popleft()[1]()
        return bool(ready)

    def elapsed_ms(self, first: Event, last: Event) -> float:
        assert self._come[first] and self._come[last], "both must have come"
        return 1.0

    def upload(self, to: Address, source: U8, stream: Stream) -> None:
        self.called("upload")
        self.bytes_up += source.nbytes
        self.put(stream, lambda: np.copyto(self.at(to, source.nbytes), source))

    def download(self, to: U8, source: Address, stream: Stream) -> None:
        self.called("download")
        self.bytes_down += to.nbytes
        self.put(stream, lambda: np.copyto(to, self.at(source, to.nbytes)))

    def copy(self, to: Address, source: Address, size: int, stream: Stream) -> None:
        self.called("copy")
        assert to + size <= source or source + size <= to, "they overlap"
        self.put(stream, lambda: np.copyto(self.at(to, size), self.at(source, size)))

    def clear(self, to: Address, size: int, stream: Stream) -> None:
        self.called("clear")
        self.put(stream, lambda: self.at(to, size).fill(0))

    def load(self, source: str, name: str) -> Kernel:
        self.called("load")
        library = ctypes.CDLL(str(compiled(source, self._folder)))
        self._kernels[len(self._kernels) + 1] = getattr(library, f"run_{name}")
        return len(self._kernels)

    def launch(self, kernel: Kernel, grid: tuple[int, int], block: int, arguments: np.ndarray, stream: Stream) -> None:
        self.called("launch")
        held = np.array(arguments)
        self.put(stream, lambda: self._kernels[kernel](ctypes.c_void_p(held.ctypes.data), *grid, block))

    def capture(self, stream: Stream) -> None:
        self.called("capture")
        assert stream not in self._capturing
        self._capturing[stream] = []

    def captured(self, stream: Stream) -> Graph:
        self.called("captured")
        self._graphs.append(self._capturing.pop(stream))
        assert self._graphs[-1], "nothing was put into the stream"
        return len(self._graphs) - 1

    def replay(self, graph: Graph, stream: Stream) -> None:
        self.called("replay")
        for work in self._graphs[graph]:
            self.put(stream, work)

    def close(self) -> None:
        self.closed = True
