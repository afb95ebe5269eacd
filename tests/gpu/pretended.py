"""Runs all of the driver's door on a pretended driver library, through the real bindings. Run by test_driver."""

import threading

import numpy as np

from edge.core import cuda
from edge.core.cuda import CudaDriver
from edge.core.gpu import GpuError

cuda.compiled = lambda *_: b"\x7fELF"  # the compiler asks the driver for more than a pretended one knows

driver = CudaDriver()
assert (driver.gpu, driver.capability, driver.version) == ("pretended", 86, "13.2")
stream, first, last = driver.stream(), driver.event(), driver.event()
source, back = driver.pinned(1000), driver.pinned(1000)
source[:] = np.arange(1000) % 251
here, there, far = (driver.allocate(1000) for _ in range(3))


def work() -> None:
    driver.record(first, stream)
    driver.upload(here, source, stream)
    driver.copy(there, here, 1000, stream)
    arguments = np.zeros((), [("to", np.uint64), ("from", np.uint64), ("size", np.int64)])
    arguments["to"], arguments["from"], arguments["size"] = far, there, 900
    driver.clear(far, 1000, stream)
    driver.launch(driver.load("", "copied"), (2, 3), 64, arguments, stream)
    driver.download(back, far, stream)
    driver.record(last, stream)
    driver.wait(stream, last)
    driver.synchronise(last)


thread = threading.Thread(target=work)  # another thread has no context of its own accord
thread.start()
thread.join()
assert not driver.has_come(last)
assert driver.has_come(last)
assert driver.elapsed_ms(first, last) == 1.5
np.testing.assert_array_equal(back[:900], source[:900])
assert not back[900:].any()
driver.capture(stream)
graph = driver.captured(stream)
driver.replay(graph, stream)
driver.replay(graph, stream)
for call, said in (
    (lambda: driver.captured(stream), "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED of cuStreamEndCapture"),
    (lambda: driver.replay(graph, 0), "CUDA_ERROR_INVALID_HANDLE of cuGraphLaunch"),
    (lambda: driver.allocate(1 << 41), "the GPU's memory is full"),
    (lambda: driver.launch(stream, (1, 1), 1, np.zeros(()), stream), "CUDA_ERROR_LAUNCH_FAILED of cuLaunchKernel"),
    (lambda: driver.has_come(0), "CUDA_ERROR_INVALID_HANDLE of cuEventQuery"),
    (lambda: driver.record(first, 0), "CUDA_ERROR_INVALID_HANDLE of cuEventRecord"),
    (lambda: CudaDriver(1), "CUDA_ERROR_INVALID_DEVICE"),
):
    try:
        call()
    except GpuError as error:
        assert said in str(error), error
    else:
        raise AssertionError(said)
driver.close()
driver.close()
print("all calls taken")
