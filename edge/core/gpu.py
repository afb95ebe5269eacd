"""What Foilsight asks of a GPU: memory, streams, events and kernels, behind one interface.

Addresses, streams, events and kernels are the driver's own numbers, so that libraries which bring kernels of their own
(TensorRT, PyTorch) work on the same memory in the same streams. All calls come from one thread.
"""

from typing import Any, Protocol

from numpy.typing import NDArray

from edge.core.errors import FoilsightError
from edge.core.types import U8

Address = int
Stream = int
Event = int
Kernel = int
Graph = int


class GpuError(FoilsightError):
    """The GPU is not there, cannot do what is asked, or failed. What it was working on is lost."""


class NoGpu(GpuError):
    """There is no GPU, or no driver for it."""


class Driver(Protocol):
    """One GPU. Every method raises GpuError; after one, only `close` may be called.

    `gpu`: its name; `capability`: of computation, 86 for 8.6; `version`: of the driver. What is put into a stream is
    done in its order; errors of it may be raised by any later call.
    """

    gpu: str
    capability: int
    version: str

    def allocate(self, size: int) -> Address:
        """Device memory of so many bytes, for as long as the driver is open."""
        ...

    def pinned(self, size: int) -> U8:
        """Host memory (size,) that is copied without the processor, for as long as the driver is open."""
        ...

    def stream(self) -> Stream: ...

    def event(self) -> Event:
        """An event that no work comes before until it is recorded."""
        ...

    def record(self, event: Event, stream: Stream) -> None:
        """The event comes after all that is in the stream by now."""
        ...

    def wait(self, stream: Stream, event: Event) -> None:
        """What is put into the stream from now on begins after the event."""
        ...

    def synchronise(self, event: Event) -> None:
        """Return when the event has come."""
        ...

    def has_come(self, event: Event) -> bool:
        """Whether it has, without waiting."""
        ...

    def elapsed_ms(self, first: Event, last: Event) -> float:
        """Between two events that have come."""
        ...

    def upload(self, to: Address, source: U8, stream: Stream) -> None:
        """Copy pinned memory to the device; the source must stay as it is until an event behind the copy has come."""
        ...

    def download(self, to: U8, source: Address, stream: Stream) -> None:
        """Copy from the device to pinned memory."""
        ...

    def copy(self, to: Address, source: Address, size: int, stream: Stream) -> None:
        """Copy within the device; the two must not overlap."""
        ...

    def clear(self, to: Address, size: int, stream: Stream) -> None:
        """Set so many bytes to zero."""
        ...

    def load(self, source: str, name: str) -> Kernel:
        """A kernel of a CUDA C++ source, compiled for this GPU."""
        ...

    def launch(
        self, kernel: Kernel, grid: tuple[int, int], block: int, arguments: NDArray[Any], stream: Stream
    ) -> None:
        """Run a kernel over `grid` (x, y) blocks of `block` threads. Its one argument is a structure, passed by value:
        `arguments` has no dimensions."""
        ...

    def capture(self, stream: Stream) -> None:
        """What is put into the stream from now on is not done, but remembered."""
        ...

    def captured(self, stream: Stream) -> Graph:
        """What was remembered, for as long as the driver is open; the stream is as usual again."""
        ...

    def replay(self, graph: Graph, stream: Stream) -> None:
        """Put all that was remembered into the stream, at once."""
        ...

    def close(self) -> None:
        """Give everything back. Never raises; may be called again."""
        ...
