"""What a GPU makes of the line: `python -m benchmarks.gpu`, on a machine with one.

Measured on random strobes: the memory's copy bandwidth and the surface kernel's share of it; the network alone; the
whole way, raw strobes in host memory to class maps in host memory, in millions of web pixels a second, with the latency
of each strip and the web speed that this sustains; and rivals on the same way. The network is TensorRT's where it knows
the GPU, otherwise PyTorch's. Nothing in here has been run by CI: it has no GPU.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_scene import flat_calibration, strip_map, surface_arguments
from benchmarks.rivals.gpu import RIVALS
from edge.core.cuda import CudaDriver
from edge.core.errors import FoilsightError
from edge.core.gpu import Driver
from edge.pipeline.device import DeviceLine
from edge.segmentation.device_backend import Engine
from edge.segmentation.model import ModelFile, load_model
from edge.surface.cuda import SurfaceKernels

PITCH_MM = 0.05
RESULTS = Path(__file__).parent / "results"
HALF_A_GIB = 1 << 29
STROBE, FLAT_FIELD, CHANNEL = 1, 8, 4
"""Bytes of a pixel: of a strobe u8, of dark and gain, of a channel of the network's input."""


def main() -> int:
    """Measure, print a table, keep the figures."""
    arguments = _arguments()
    try:
        driver = CudaDriver()
    except FoilsightError as error:
        print(f"benchmarks.gpu: nothing can be measured, there is no GPU here ({error})", file=sys.stderr)
        return 2
    model = load_model(arguments.model)
    rows, width = arguments.rows, arguments.width
    window = rows + 2 * model.info.halo
    engine = best_engine(driver, model, window, width)
    figures: dict[str, Any] = {
        "gpu": driver.gpu,
        "capability": driver.capability,
        "driver": driver.version,
        "python": platform.python_version(),
        "engine": f"{engine.name} {engine.precision}",
        "model": model.digest,
        "strip": [rows, width],
    }
    figures["copy_gb_per_s"] = copy_bandwidth(driver, HALF_A_GIB)
    figures["surface_gb_per_s"] = surface_bandwidth(driver, model, rows, width, 200)
    figures["surface_share_of_copy"] = figures["surface_gb_per_s"] / figures["copy_gb_per_s"]
    figures["stages_ms_per_strip"] = stages(driver, engine, model, rows, width, 50)
    figures["line"] = line(driver, engine, model, rows, width, arguments.strips)
    slowest = max(figures["stages_ms_per_strip"].values())
    figures["end_to_end_of_slowest_stage"] = slowest / figures["line"]["ms_per_strip"]
    figures["rivals_mpix_per_s"] = {
        name: _or_why(lambda rival=rival: rival(model, flat_calibration(rows, width), rows, width, arguments.strips))
        for name, rival in RIVALS.items()
    }
    driver.close()
    print(json.dumps(figures, indent=2))
    RESULTS.mkdir(exist_ok=True)
    name = driver.gpu.lower().replace(" ", "-")
    (RESULTS / f"gpu-{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def best_engine(driver: Driver, model: ModelFile, rows: int, columns: int) -> Engine:
    """TensorRT's where it knows this GPU, made here and now; otherwise PyTorch's."""
    from edge.segmentation.tensorrt import Library, TensorRtEngine

    try:
        library = Library()
        made_for = library.made_for(model, "auto", rows, columns, driver)
        return TensorRtEngine(library, library.build(model, made_for), model, made_for)
    except FoilsightError as error:
        print(f"benchmarks.gpu: PyTorch in place of TensorRT ({error})", file=sys.stderr)
    from calibration.network.torch_engine import TorchEngine

    return TorchEngine(model, rows, columns)


def copy_bandwidth(driver: Driver, size: int, times: int = 20) -> float:
    """GB/s read and written together by a copy within the device."""
    source, to, stream = driver.allocate(size), driver.allocate(size), driver.stream()
    ms = _per_call_ms(driver, stream, times, lambda: driver.copy(to, source, size, stream))
    return 2 * size / ms / 1e6


def surface_bandwidth(driver: Driver, model: ModelFile, rows: int, width: int, times: int) -> float:
    """GB/s that the surface kernels must at least move, strobes and flat field in and channels out, each byte once."""
    stream = driver.stream()
    arguments = surface_arguments(driver, stream, model, rows, width)
    kernels = SurfaceKernels(driver, np.dtype(np.uint8))
    ms = _per_call_ms(driver, stream, times, lambda: kernels.launch(arguments, stream))
    moved = rows * width * (4 * (STROBE + FLAT_FIELD) + CHANNEL * len(model.info.channels))
    return moved / ms / 1e6


def stages(driver: Driver, engine: Engine, model: ModelFile, rows: int, width: int, times: int) -> dict[str, float]:
    """Milliseconds a strip of each stage alone: copy up, surface kernel, network, copy back."""
    stream, window = driver.stream(), rows + 2 * model.info.halo
    strobes, strobes_there = driver.pinned(4 * rows * width), driver.allocate(4 * rows * width)
    arguments = surface_arguments(driver, stream, model, rows, width)
    kernels = SurfaceKernels(driver, np.dtype(np.uint8))
    pixels, channels = window * width, len(model.info.channels)
    surface, answer = driver.allocate(4 * channels * pixels), driver.allocate(2 * pixels)
    driver.clear(surface, 4 * channels * pixels, stream)
    back = driver.pinned(2 * rows * width)
    shape = (1, channels, window, width)
    work: dict[str, Callable[[], None]] = {
        "up": lambda: driver.upload(strobes_there, strobes, stream),
        "surface": lambda: kernels.launch(arguments, stream),
        "network": lambda: engine.enqueue(surface, shape, answer, answer + pixels, stream),
        "back": lambda: driver.download(back, answer, stream),
    }
    return {name: _per_call_ms(driver, stream, times, each) for name, each in work.items()}


def line(driver: Driver, engine: Engine, model: ModelFile, rows: int, width: int, strips: int) -> dict[str, float]:
    """The whole way: four strobes a strip go up, class maps come back. Latency: from the first strobe of the strip that
    completes a window to its class map."""
    calibration = flat_calibration(rows, width)
    loop = DeviceLine(driver, engine, calibration, model.info, rows, width, np.uint8)
    strobes = np.random.default_rng(1).integers(60, 200, (8, rows, width), np.uint8)
    pushed: list[float] = []
    latency_ms: list[float] = []
    decided = 0
    behind = -(-(rows + 2 * model.info.halo) // rows) - 1  # strips that a window waits for

    def take(maps: int) -> None:
        nonlocal decided
        for _ in range(maps):
            latency_ms.append(1e3 * (time.perf_counter() - pushed[decided + behind]))
            decided += 1

    warm = 10
    for strip in range(warm + strips):
        if strip == warm:
            started = time.perf_counter()
        at = time.perf_counter()
        for k in range(4):
            loop.upload(4 * (strip % 4) + k, strobes[(4 * strip + k) % 8])
        pushed.append(at)
        take(sum(len(done.decided) for done in [*loop.push(strip_map(strip, rows)), *loop.poll()]))
    seconds = time.perf_counter() - started
    loop.finish()
    p50, p99, p999 = np.percentile(latency_ms[warm:], [50, 99, 99.9])
    mpix_per_s = strips * rows * width / seconds / 1e6
    return {
        "mpix_per_s": mpix_per_s,
        "ms_per_strip": 1e3 * seconds / strips,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "p999_ms": float(p999),
        "m_per_min": strips * rows * PITCH_MM / seconds * 60 / 1e3,
        "m_per_min_at_100_mm_width": mpix_per_s * 1e6 / (100 / PITCH_MM) * PITCH_MM * 60 / 1e3,
    }


def _per_call_ms(driver: Driver, stream: int, times: int, work: Callable[[], None]) -> float:
    first, last = driver.event(), driver.event()
    for _ in range(5):
        work()
    driver.record(first, stream)
    for _ in range(times):
        work()
    driver.record(last, stream)
    driver.synchronise(last)
    return driver.elapsed_ms(first, last) / times


def _or_why(measure: Callable[[], float]) -> float | str:
    """A figure, or why there is none: a rival that is not installed must not end it all."""
    try:
        return measure()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="ONNX file; without one, the shipped one")
    parser.add_argument("--rows", type=int, default=256, help="of a strip")
    parser.add_argument("--width", type=int, default=2048, help="of the web, one window")
    parser.add_argument("--strips", type=int, default=500)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
