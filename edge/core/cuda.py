"""The GPU of `edge.core.gpu`, by NVIDIA's driver."""

import ctypes
import threading
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.core.errors import MissingExtra
from edge.core.gpu import Address, Event, GpuError, Graph, Kernel, NoGpu, Stream
from edge.core.reading import one_line
from edge.core.types import U8

_NON_BLOCKING = 1
_SUCCESS, _NOT_YET = "CUDA_SUCCESS", "CUDA_ERROR_NOT_READY"
_OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
_NO_DEVICE = ("CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_NOT_INITIALIZED", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH")


class CudaDriver:
    """A `Driver` of one NVIDIA GPU, in the context that all libraries of the process share.

    May be called from any thread, from one at a time. Raises MissingExtra without the bindings, NoGpu without a GPU.
    """

    def __init__(self, device: int = 0) -> None:
        self._cuda = _bindings()
        self._context: Any = None
        self._thread: int | None = None
        self._device_memory: list[Address] = []
        self._host_memory: list[int] = []
        self._modules: dict[str, Any] = {}
        self._streams: list[Stream] = []
        self._events: list[Event] = []
        self._graphs: list[Graph] = []
        try:
            self._do("cuInit", 0)
        except RuntimeError as error:  # of the bindings, where the driver's library is not there
            raise NoGpu("there is no NVIDIA driver here") from error
        self._device = self._do("cuDeviceGet", device)
        self.gpu = self._do("cuDeviceGetName", 128, self._device).split(b"\0")[0].decode()
        attribute = self._cuda.CUdevice_attribute
        major, minor = (
            self._do("cuDeviceGetAttribute", which, self._device)
            for which in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        self.capability = 10 * int(major) + int(minor)
        version = int(self._do("cuDriverGetVersion"))
        self.version = f"{version // 1000}.{version % 1000 // 10}"
        self._context = self._do("cuDevicePrimaryCtxRetain", self._device)

    def allocate(self, size: int) -> Address:
        """See `Driver`."""
        self._device_memory.append(int(self._call("cuMemAlloc", size)))
        return self._device_memory[-1]

    def pinned(self, size: int) -> U8:
        """See `Driver`."""
        address = int(self._call("cuMemHostAlloc", size, 0))
        self._host_memory.append(address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def stream(self) -> Stream:
        """See `Driver`."""
        self._streams.append(int(self._call("cuStreamCreate", _NON_BLOCKING)))
        return self._streams[-1]

    def event(self) -> Event:
        """See `Driver`."""
        self._events.append(int(self._call("cuEventCreate", 0)))
        return self._events[-1]

    def record(self, event: Event, stream: Stream) -> None:
        """See `Driver`."""
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: Stream, event: Event) -> None:
        """See `Driver`."""
        self._call("cuStreamWaitEvent", stream, event, 0)

    def synchronise(self, event: Event) -> None:
        """See `Driver`."""
        self._call("cuEventSynchronize", event)

    def has_come(self, event: Event) -> bool:
        """See `Driver`."""
        self._enter()
        (code,) = self._cuda.cuEventQuery(event)
        _check(code, "cuEventQuery", fine=(_SUCCESS, _NOT_YET))
        return bool(code.name == _SUCCESS)

    def elapsed_ms(self, first: Event, last: Event) -> float:
        """See `Driver`."""
        return float(self._call("cuEventElapsedTime", first, last))

    def upload(self, to: Address, source: U8, stream: Stream) -> None:
        """See `Driver`."""
        self._call("cuMemcpyHtoDAsync", to, source.ctypes.data, source.nbytes, stream)

    def download(self, to: U8, source: Address, stream: Stream) -> None:
        """See `Driver`."""
        self._call("cuMemcpyDtoHAsync", to.ctypes.data, source, to.nbytes, stream)

    def copy(self, to: Address, source: Address, size: int, stream: Stream) -> None:
        """See `Driver`."""
        self._call("cuMemcpyDtoDAsync", to, source, size, stream)

    def clear(self, to: Address, size: int, stream: Stream) -> None:
        """See `Driver`."""
        self._call("cuMemsetD8Async", to, 0, size, stream)

    def load(self, source: str, name: str) -> Kernel:
        """See `Driver`."""
        if source not in self._modules:
            self._modules[source] = self._call("cuModuleLoadData", compiled(source, name, self.capability))
        return int(self._call("cuModuleGetFunction", self._modules[source], name.encode()))

    def launch(
        self, kernel: Kernel, grid: tuple[int, int], block: int, arguments: NDArray[Any], stream: Stream
    ) -> None:
        """See `Driver`."""
        held = np.array(arguments)  # the call copies what it is given
        pointers = (ctypes.c_void_p * 1)(held.ctypes.data)
        self._call("cuLaunchKernel", kernel, *grid, 1, block, 1, 1, 0, stream, ctypes.addressof(pointers), 0)

    def capture(self, stream: Stream) -> None:
        """See `Driver`. What other threads ask of the GPU meanwhile is not remembered."""
        self._call("cuStreamBeginCapture", stream, self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)

    def captured(self, stream: Stream) -> Graph:
        """See `Driver`."""
        drawn = self._call("cuStreamEndCapture", stream)
        try:
            self._graphs.append(int(self._call("cuGraphInstantiate", drawn, 0)))
        finally:
            self._cuda.cuGraphDestroy(drawn)
        return self._graphs[-1]

    def replay(self, graph: Graph, stream: Stream) -> None:
        """See `Driver`."""
        self._call("cuGraphLaunch", graph, stream)

    def close(self) -> None:
        """See `Driver`."""
        if self._context is None:
            return
        gone: list[tuple[str, Any]] = [("cuCtxSetCurrent", self._context), ("cuCtxSynchronize", None)]
        gone += [("cuGraphExecDestroy", graph) for graph in self._graphs]
        gone += [("cuModuleUnload", module) for module in self._modules.values()]
        gone += [("cuEventDestroy", event) for event in self._events]
        gone += [("cuStreamDestroy", stream) for stream in self._streams]
        gone += [("cuMemFree", address) for address in self._device_memory]
        gone += [("cuMemFreeHost", address) for address in self._host_memory]
        gone += [("cuDevicePrimaryCtxRelease", self._device)]
        for name, what in gone:
            getattr(self._cuda, name)(*([] if what is None else [what]))  # whatever it says: all of it goes
        self._context = None

    def _call(self, name: str, *arguments: Any) -> Any:
        self._enter()
        return self._do(name, *arguments)

    def _enter(self) -> None:
        """Make the context that of this thread."""
        if self._context is None:
            raise GpuError("the GPU was given back")
        if self._thread != threading.get_ident():
            self._do("cuCtxSetCurrent", self._context)
            self._thread = threading.get_ident()

    def _do(self, name: str, *arguments: Any) -> Any:
        """What a function of the driver gives beside its result code. Raises GpuError where that is not success."""
        code, *values = getattr(self._cuda, name)(*arguments)
        _check(code, name)
        return values[0] if values else None


@cache
def compiled(source: str, name: str, capability: int) -> bytes:
    """Machine code of a CUDA C++ source for GPUs of a capability of computation; needs no GPU, and is made once.

    Raises GpuError with the compiler's first complaint.
    """
    nvrtc = _bindings("nvrtc")
    options = [f"--gpu-architecture=sm_{capability}".encode(), b"--std=c++17"]
    _, program = nvrtc.nvrtcCreateProgram(source.encode(), f"{name}.cu".encode(), 0, [], [])
    (code,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if code != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = bytes(nvrtc.nvrtcGetProgramLogSize(program)[1])
        nvrtc.nvrtcGetProgramLog(program, log)
        raise GpuError(f"{name}.cu: does not compile for sm_{capability}: {one_line(log.decode())}")
    binary = bytes(nvrtc.nvrtcGetCUBINSize(program)[1])
    nvrtc.nvrtcGetCUBIN(program, binary)
    nvrtc.nvrtcDestroyProgram(program)
    return binary


def _check(code: Any, name: str, fine: tuple[str, ...] = (_SUCCESS,)) -> None:
    """Raises GpuError for a result code that is not fine."""
    if code.name in fine:
        return
    if code.name == _OUT_OF_MEMORY:
        raise GpuError("the GPU's memory is full: end what else uses it, or take narrower windows")
    if code.name in _NO_DEVICE:
        raise NoGpu(f"there is no NVIDIA GPU here that can be used ({code.name})")
    raise GpuError(f"the GPU failed ({code.name} of {name})")


def _bindings(module: str = "driver") -> Any:
    try:
        from cuda.bindings import driver, nvrtc
    except ImportError as error:
        raise MissingExtra("cuda-bindings", "gpu") from error
    return {"driver": driver, "nvrtc": nvrtc}[module]
