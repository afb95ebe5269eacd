"""What others would do on the same GPU: four strobes a strip in host memory, class and score in host memory."""

import time
from collections.abc import Callable

import numpy as np

from edge.core.calibration import Calibration
from edge.segmentation.half import half
from edge.segmentation.model import ModelFile
from edge.surface.matrices import matrices_for

Rival = Callable[[ModelFile, Calibration, int, int, int], float]
"""Of a model, a calibration, rows and width of a strip and how many of them: millions of web pixels a second."""


def _torch(compiled: bool) -> Rival:
    def measure(model: ModelFile, calibration: Calibration, rows: int, width: int, strips: int) -> float:
        import torch

        from calibration.network.torch_engine import OnnxNetwork

        network = OnnxNetwork(half(model.data, model.path), str(model.path)).cuda()
        network = network.to(memory_format=torch.channels_last)
        surface = _TorchSurface(model, calibration, rows)

        def decide(strobes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return network(surface(strobes))

        run = torch.compile(decide) if compiled else decide
        strobes = torch.randint(60, 200, (8, 4, rows, width), dtype=torch.uint8).pin_memory()
        back = [torch.empty((1, rows, width), dtype=torch.uint8).pin_memory() for _ in range(2)]

        def strip(number: int) -> None:
            for to, plane in zip(back, run(strobes[number % 8].cuda(non_blocking=True)), strict=True):
                to.copy_(plane[:, :rows], non_blocking=True)

        with torch.inference_mode():
            return _mpix_per_s(strip, torch.cuda.synchronize, rows, width, strips)

    return measure


def _onnxruntime(model: ModelFile, calibration: Calibration, rows: int, width: int, strips: int) -> float:
    import onnxruntime
    import torch

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise RuntimeError("this ONNX Runtime has no CUDA: install onnxruntime-gpu")
    session = onnxruntime.InferenceSession(half(model.data, model.path), providers=["CUDAExecutionProvider"])
    surface = _TorchSurface(model, calibration, rows)
    strobes = torch.randint(60, 200, (8, 4, rows, width), dtype=torch.uint8).pin_memory()

    def strip(number: int) -> None:
        window = surface(strobes[number % 8].cuda(non_blocking=True)).contiguous()
        torch.cuda.synchronize()
        binding = session.io_binding()
        binding.bind_input("surface", "cuda", 0, np.float32, tuple(window.shape), window.data_ptr())
        binding.bind_output("class_index")
        binding.bind_output("score")
        session.run_with_iobinding(binding)

    with torch.inference_mode():
        return _mpix_per_s(strip, torch.cuda.synchronize, rows, width, strips)


class _TorchSurface:
    """The surface as one would write it in PyTorch: correct, solve, normalise, and lay into a window with halo."""

    def __init__(self, model: ModelFile, calibration: Calibration, rows: int) -> None:
        import torch

        self._torch, self._channels, self._halo = torch, model.info.channels, model.info.halo
        assert calibration.dark is not None
        assert calibration.flat is not None
        self._dark = torch.from_numpy(calibration.dark).cuda()
        self._gain = torch.from_numpy((1 / (calibration.flat - calibration.dark)).astype(np.float32)).cuda()
        inverse = matrices_for(calibration, np.arange(4)).inverse.astype(np.float32)
        self._inverse = torch.from_numpy(inverse).cuda()

    def __call__(self, strobes):  # type: ignore[no-untyped-def]
        torch = self._torch
        q = (strobes.float() - self._dark) * self._gain
        b = torch.einsum("ikw,krw->irw", self._inverse, q)
        albedo = b.norm(dim=0)
        planes = {"albedo": albedo, "residual": torch.zeros_like(albedo)}
        planes |= {f"normal_{axis}": b[at] / albedo for at, axis in enumerate("xyz")}
        window = torch.stack([planes[name] for name in self._channels])
        return torch.nn.functional.pad(window, (0, 0, 0, 2 * self._halo))[None]


def _mpix_per_s(
    strip: Callable[[int], None], synchronise: Callable[[], None], rows: int, width: int, strips: int
) -> float:
    for number in range(10):
        strip(number)
    synchronise()
    started = time.perf_counter()
    for number in range(strips):
        strip(number)
    synchronise()
    return strips * rows * width / (time.perf_counter() - started) / 1e6


RIVALS: dict[str, Rival] = {
    "torch eager f16": _torch(compiled=False),
    "torch.compile f16": _torch(compiled=True),
    "ONNX Runtime CUDA f16": _onnxruntime,
}
