"""The CUDA surface kernel without a GPU: as C++ against the NumPy reference, and compiled for GPUs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lambertian import HEIGHT, PITCH_MM, WIDTH, calibration, columns_mm, decided, lamp_directions

from edge.assembly.kernel import lay_rows
from edge.core.calibration import Calibration
from edge.core.cuda import compiled as compiled_for_gpu
from edge.core.gpu import Driver
from edge.core.types import Strip, Surface
from edge.pipeline.device_plan import sources_of
from edge.segmentation.device_backend import ANYTHING
from edge.surface import NumpyKernel, SurfaceSolver
from edge.surface.cuda import (
    ARGUMENTS,
    CHANNELS,
    USUAL_BYTES,
    WINDOW,
    SurfaceKernels,
    blocks_of_rows,
    lights_of_tables,
    source,
    tables,
    window,
)
from edge.surface.matrices import Matrices, matrices_for
from edge.surface.tolerance import looked_at_columns

from .fake_gpu import FakeGpu
from .plain import Plain

gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
GPUS = (75, 80, 86, 89, 90, 100, 120)
ROWS = 22


class Scene:
    """Random strobes of a bent web under four lights, with glints and shadows; a random row map with whole,
    interpolated and missing rows, moved sideways."""

    def __init__(self, dtype: type, seed: int = 0, sideways: bool = True) -> None:
        random = np.random.default_rng(seed)
        white = float(np.iinfo(dtype).max)
        self.calibration: Calibration = calibration()
        shape = (4, HEIGHT, WIDTH)
        self.dark = random.uniform(0.01, 0.03, shape).astype(np.float32) * white
        self.gain = (1 / random.uniform(0.3, 0.6, shape) / white).astype(np.float32)
        x_mm, y_mm = np.meshgrid(columns_mm(), PITCH_MM * (np.arange(HEIGHT) - (HEIGHT - 1) / 2))
        slope = 0.15 * np.sin(x_mm / 3)
        normal = np.stack([slope, 0.5 * slope, np.ones_like(slope)]) / np.sqrt(1 + 1.25 * slope**2)
        light = lamp_directions(4, x_mm, y_mm)
        shade = (0.8 + 0.1 * np.cos(x_mm / 2)) * (normal * light).sum(axis=1) / light[:, 2]
        shade += random.normal(0, 0.003, shape)
        for k, row, column in random.integers((0, 0, 0), shape, (250, 3)):
            shade[k, row : row + 4, column : column + 4] = random.choice([0.0, 1.5, 4.0])
        shade[:, :, 17] = 0
        counts = self.dark + np.maximum(shade, 0) / self.gain
        self.strobes = np.clip(np.rint(counts), 0, white).astype(dtype)
        self.source_row = random.uniform(2, HEIGHT - 4, (4, ROWS))
        self.source_row[:, ::2] = np.rint(self.source_row[:, ::2])
        self.slot = np.tile(np.arange(4, dtype=np.int32)[:, None], ROWS)
        self.slot[1, 5:9] = -1
        self.slot[2:, 12] = -1
        self.source_row[self.slot < 0] = np.nan
        self.shift = random.uniform(-6, 6, (4, ROWS)) if sideways else np.zeros((4, ROWS))

    @property
    def strip(self) -> Strip:
        planes = np.empty((4, ROWS, WIDTH), np.float32)
        shift = np.where(self.slot >= 0, self.shift, 0)
        lay_rows(planes, self.strobes, self.slot, self.source_row, self.dark, self.gain, shift)
        seen = np.packbits((self.slot >= 0).T, axis=1, bitorder="little")
        return Strip(planes, seen, self.source_row.astype(np.float32), 0)

    def expected(self) -> Surface:
        return SurfaceSolver(self.calibration, NumpyKernel).solve(self.strip)

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
        blocks = blocks_of_rows(self.table_of_row, np.array([True, False]))
        run_starts, run = looked_at_columns(WIDTH)
        arguments = np.zeros((), ARGUMENTS)
        for name, values in {
            "dark": self.dark,
            "gain": self.gain,
            "table": tables(self.matrices),
            "lights": lights_of_tables(self.matrices),
            "sources": sources_of(strobe, self.source_row, self.shift, (HEIGHT - 1) / 2),
            "table_of_row": self.table_of_row,
            "block_of_row": blocks.of_row,
            "blocks": blocks.blocks,
            "run_starts": run_starts.astype(np.int32),
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
        arguments["window_count"], arguments["block_count"] = len(windows) + 1, len(blocks.blocks)
        arguments["run_count"], arguments["run"] = len(run_starts), run
        arguments["usual"] = gpu.allocate(USUAL_BYTES * ROWS)
        arguments["samples"] = gpu.allocate(8 * ROWS * 2 * len(run_starts) * run)
        SurfaceKernels(gpu, self.strobes.dtype).launch(arguments, stream)

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
    certain = decided(scene.calibration, scene.strip, expected)
    assert certain.mean() > 0.98
    assert np.abs(here[:3] - expected.normals)[:, certain].max() < 1e-5
    np.testing.assert_allclose(here[3][certain], expected.albedo[certain], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(here[4], np.nan_to_num(expected.residual), rtol=3e-5, atol=5e-6)
    np.testing.assert_allclose(scene.checksum, expected.residual[3::16], rtol=3e-5, atol=5e-6)
    np.testing.assert_array_equal(valid[certain], expected.valid[certain])
    four = SurfaceSolver(scene.calibration, Plain).solve(scene.strip)
    mended = (expected.valid > four.valid) & certain
    assert mended.sum() > 100, "what three lights say must be there"
    assert (~expected.valid.astype(bool) & certain).sum() > 50, "and what they must not"
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
def test_the_kernels_compile_for_every_gpu(capability: int) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="pip install cuda-bindings nvidia-cuda-nvrtc")
    image = compiled_for_gpu(source(), "surface", capability)
    assert image[:4] == b"\x7fELF"
    assert compiled_for_gpu(ANYTHING.read_text(), "anything", capability)[:4] == b"\x7fELF"
    assert all(name in image for name in (b"surface_u8", b"surface_u16", b"sample_u8", b"sample_u16", b"quartiles"))
