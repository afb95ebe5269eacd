"""The CUDA surface kernel without a GPU: as C++ against the NumPy reference, and compiled for GPUs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lambertian import HEIGHT, WIDTH, calibration

from edge.assembly.kernel import lay_rows
from edge.core.calibration import Calibration
from edge.core.cuda import compiled as compiled_for_gpu
from edge.core.gpu import Driver
from edge.core.types import Strip, Surface
from edge.pipeline.device_plan import sources_of
from edge.surface.cuda import (
    ARGUMENTS,
    CHANNELS,
    KERNELS,
    SOURCE,
    THREADS,
    WINDOW,
    grid,
    lights_of_tables,
    tables,
    window,
)
from edge.surface.matrices import Matrices, matrices_for
from edge.surface.solver import empty_surface
from edge.surface.tolerance import Tolerance

from .fake_gpu import FakeGpu
from .plain import Plain

gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
GPUS = (75, 80, 86, 89, 90, 100, 120)
ROWS = 22


class Scene:
    """Random strobes of four lights, a random row map with whole, interpolated and missing rows, moved sideways."""

    def __init__(self, dtype: type, seed: int = 0, sideways: bool = True) -> None:
        random = np.random.default_rng(seed)
        white = float(np.iinfo(dtype).max)
        self.calibration: Calibration = calibration()
        shape = (4, HEIGHT, WIDTH)
        self.dark = random.uniform(0.01, 0.03, shape).astype(np.float32) * white
        self.gain = (1 / random.uniform(0.3, 0.6, shape) / white).astype(np.float32)
        smooth = np.repeat(random.uniform(0.2, 0.7, (4, HEIGHT, 1)), WIDTH, axis=2)
        self.strobes = (white * np.clip(smooth + random.normal(0, 0.01, shape), 0, 1)).astype(dtype)
        self.strobes[:, :, 17] = 0
        self.strobes[0, :, 30:34] = 0
        self.source_row = random.uniform(2, HEIGHT - 4, (4, ROWS))
        self.source_row[:, ::2] = np.rint(self.source_row[:, ::2])
        self.slot = np.tile(np.arange(4, dtype=np.int32)[:, None], ROWS)
        self.slot[1, 5:9] = -1
        self.slot[2:, 12] = -1
        self.source_row[self.slot < 0] = np.nan
        self.shift = random.uniform(-6, 6, (4, ROWS)) if sideways else np.zeros((4, ROWS))

    def expected(self) -> Surface:
        planes = np.empty((4, ROWS, WIDTH), np.float32)
        shift = np.where(self.slot >= 0, self.shift, 0)
        lay_rows(planes, self.strobes, self.slot, self.source_row, self.dark, self.gain, shift)
        seen = np.packbits((self.slot >= 0).T, axis=1, bitorder="little")
        strip = Strip(planes, seen, self.source_row.astype(np.float32), 0)
        surface = empty_surface(ROWS, WIDTH)
        self.tolerance = np.zeros(ROWS, np.float32)
        for row in range(ROWS):
            if self.table_of_row[row] < 0:
                surface.normals[:, row] = np.array([0, 0, 1])[:, None]
                surface.albedo[row], surface.residual[row], surface.valid[row] = 1, np.nan, 0
            else:
                matrices = self.matrices[self.table_of_row[row]]
                self.tolerance[row] = Tolerance(matrices)(strip, row, row + 1)[0]
                Plain(matrices)(strip, row, row + 1, surface)
        return surface

    @property
    def matrices(self) -> list[Matrices]:
        return [matrices_for(self.calibration, np.array(lights)) for lights in ([0, 1, 2, 3], [0, 2, 3])]

    @property
    def table_of_row(self) -> np.ndarray:
        table = np.where((self.slot >= 0).all(axis=0), 0, 1).astype(np.int32)
        table[12] = -1
        return table

    def solved(self, gpu: Driver, halves: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All channels (5, ROWS, width on the grid), valid and seen, by the kernel; by two windows that overlap."""
        padded = -(-WIDTH // 16) * 16
        stream = gpu.stream()

        def on_device(values: np.ndarray) -> int:
            source = np.ascontiguousarray(values)
            address = gpu.allocate(source.nbytes)
            host = gpu.pinned(source.nbytes)
            host[:] = source.reshape(-1).view(np.uint8)
            gpu.upload(address, host, stream)
            return address  # what is pinned lives as long as the driver

        addresses = np.array([on_device(strobe) for strobe in self.strobes], np.uint64)
        strobe = np.where(self.slot >= 0, addresses[self.slot], 0).astype(np.uint64)
        out = np.full((5, ROWS, padded), np.nan, np.float32)
        seen, valid = on_device(np.zeros(ROWS, np.uint8)), on_device(np.zeros((ROWS, WIDTH), np.uint8))
        edges = [(0, padded)] if not halves else [(0, 112), (96, padded)]
        windows = [
            window(
                gpu.allocate(4 * 5 * (ROWS + 3) * (stop - start)),
                CHANNELS[:5],
                ROWS + 3,
                stop - start,
                start,
                row_shift=3,
            )
            for start, stop in edges
        ]
        sampled = window(gpu.allocate(4 * 2 * WIDTH), CHANNELS[5:], 2, WIDTH, row_shift=-3, row_step=16)
        arguments = np.zeros((), ARGUMENTS)
        for name, values in {
            "dark": self.dark,
            "gain": self.gain,
            "table": tables(self.matrices),
            "lights": lights_of_tables(self.matrices),
            "sources": sources_of(strobe, self.source_row, self.shift, (HEIGHT - 1) / 2),
            "table_of_row": self.table_of_row,
            "tolerance": self.tolerance,
            "windows": np.array([*windows, sampled], WINDOW),
        }.items():
            arguments[name] = on_device(values)
        arguments["seen"], arguments["valid"] = seen, valid
        arguments["rows"], arguments["width"], arguments["padded_width"], arguments["height"] = (
            ROWS,
            WIDTH,
            padded,
            HEIGHT,
        )
        arguments["window_count"] = len(windows) + 1
        kernel = gpu.load(SOURCE.read_text(), KERNELS[self.strobes.dtype])
        gpu.launch(kernel, grid(ROWS, WIDTH), THREADS, arguments, stream)

        def fetched(address: int, size: int) -> np.ndarray:
            host, done = gpu.pinned(size), gpu.event()
            gpu.download(host, address, stream)
            gpu.record(done, stream)
            gpu.synchronise(done)
            return host.copy()

        for to, (start, stop) in zip(windows, edges, strict=True):
            size = 4 * 5 * (ROWS + 3) * (stop - start)
            planes = fetched(int(to["planes"]), size).view(np.float32).reshape(5, ROWS + 3, stop - start)
            out[:, :, start:stop] = planes[:, 3:]
        self.checksum = fetched(int(sampled["planes"]), 4 * 2 * WIDTH).view(np.float32).reshape(2, WIDTH)
        return out, fetched(valid, ROWS * WIDTH).reshape(ROWS, WIDTH), fetched(seen, ROWS)


@gxx
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("sideways", [False, True])
@pytest.mark.parametrize("halves", [False, True])
def test_the_kernel_equals_the_reference(dtype: type, sideways: bool, halves: bool, tmp_path: Path) -> None:
    assert_equals_the_reference(FakeGpu(tmp_path), dtype, sideways, halves)


def assert_equals_the_reference(gpu: Driver, dtype: type, sideways: bool, halves: bool) -> None:
    scene = Scene(dtype, sideways=sideways)
    expected = scene.expected()
    out, valid, seen = scene.solved(gpu, halves)
    here = out[:, :, :WIDTH]
    assert np.abs(here[:3] - expected.normals).max() < 2e-6
    np.testing.assert_allclose(here[3], expected.albedo, rtol=2e-6, atol=1e-7)
    assert np.abs(here[4] - np.nan_to_num(expected.residual)).max() < 2e-6
    np.testing.assert_allclose(scene.checksum, expected.residual[3::16], rtol=0, atol=2e-6)
    assert 0.2 < expected.valid.mean() < 0.99, "both kinds must be there"
    near = np.abs(np.abs(expected.residual) - scene.tolerance[:, None]) < 1e-5
    np.testing.assert_array_equal(valid[~near], expected.valid[~near])
    np.testing.assert_array_equal(seen, valid.max(axis=1))
    assert seen[12] == 0, "two lights are too few"
    np.testing.assert_array_equal(out[:, :, WIDTH:], np.repeat(here[:, :, -1:], out.shape[2] - WIDTH, axis=2))


@gxx
def test_the_kernel_stays_within_its_memory(tmp_path: Path) -> None:
    """Under the address and undefined-behaviour sanitizers, in a process that has them loaded first."""
    library = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    asan = library.stdout.strip()
    if not Path(asan).is_absolute():
        pytest.skip("gcc's address sanitizer is not installed")
    environment = {
        **os.environ,
        "LD_PRELOAD": asan,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
    }
    command = [sys.executable, "-m", "gpu.sanitised", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "in bounds" in done.stdout


@pytest.mark.parametrize("capability", GPUS)
def test_the_kernel_compiles_for_every_gpu(capability: int) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="pip install cuda-bindings nvidia-cuda-nvrtc")
    image = compiled_for_gpu(SOURCE.read_text(), "surface", capability)
    assert image[:4] == b"\x7fELF"
    assert all(name.encode() in image for name in KERNELS.values())
