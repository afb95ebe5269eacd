"""What a network costs, layer by layer: kernels, activations, parameters, arithmetic and memory."""

import copy
import math
from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor, nn

from calibration.network.tables import text_table

FLOAT_BYTES = 4


class Layer(msgspec.Struct, frozen=True):
    """One layer as it was run. `activations` (C,H,W) of one patch; `flop` and `memory_bytes` of the whole batch.

    A multiplication and an addition are two FLOP; those of convolutions and linear layers are counted, biases included.
    Memory is what the layer gives on, in f32.
    """

    name: str
    kind: str
    kernels: str
    activations: tuple[int, ...]
    parameters: int
    flop: int
    memory_bytes: int


class Cost(msgspec.Struct, frozen=True):
    """A network's layers in the order they run, for a batch of `batch` patches of `patch` pixels a side."""

    patch: int
    batch: int
    layers: list[Layer]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def flop(self) -> int:
        return sum(layer.flop for layer in self.layers)

    @property
    def memory_bytes(self) -> int:
        return sum(layer.memory_bytes for layer in self.layers)

    @property
    def flop_per_pixel(self) -> float:
        return self.flop / (self.batch * self.patch**2)


def cost_of(network: nn.Module, channels: int, patch: int, batch: int) -> Cost:
    """Run a network once without arithmetic, on PyTorch's meta device, and note every layer without layers of its own.

    A layer that is used several times is noted each time, its parameters the first.
    """
    shadow = copy.deepcopy(network).eval().to("meta")
    layers: list[Layer] = []
    counted: set[nn.Module] = set()

    def note(name: str, layer: nn.Module, output: Tensor) -> None:
        layers.append(_layer(name, layer, output, with_parameters=layer not in counted))
        counted.add(layer)

    for name, layer in shadow.named_modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda layer, _, output, name=name: note(name, layer, output))
    with torch.no_grad():
        shadow(torch.empty(batch, channels, patch, patch, device="meta"))
    return Cost(patch, batch, layers)


def _layer(name: str, layer: nn.Module, output: Tensor, with_parameters: bool) -> Layer:
    parameters = sum(weights.numel() for weights in layer.parameters()) if with_parameters else 0
    return Layer(
        name,
        type(layer).__name__,
        _kernels(layer),
        tuple(output.shape[1:]),
        parameters,
        _flop(layer, output),
        output.numel() * FLOAT_BYTES,
    )


def _kernels(layer: nn.Module) -> str:
    """As "64 of 3x3x32", or the window of a pooling; empty for layers without."""
    match layer:
        case nn.Conv2d() | nn.ConvTranspose2d():
            size = "x".join(map(str, layer.kernel_size))
            return f"{layer.out_channels} of {size}x{layer.in_channels // layer.groups}"
        case nn.Linear():
            return f"{layer.out_features} of {layer.in_features}"
        case nn.MaxPool2d() | nn.AvgPool2d():
            return _times(layer.kernel_size)
    return ""


def _flop(layer: nn.Module, output: Tensor) -> int:
    values = output.numel()
    match layer:
        case nn.ConvTranspose2d():
            each = layer.in_channels // layer.groups * math.prod(layer.kernel_size) // math.prod(layer.stride)
        case nn.Conv2d():
            each = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        case nn.Linear():
            each = layer.in_features
        case _:
            return 0
    return values * (2 * each + (layer.bias is not None))


def cost_text(cost: Cost) -> str:
    """A cost as a table with its sums."""
    rows = [
        (
            layer.name,
            layer.kind,
            layer.kernels,
            _times(layer.activations),
            layer.parameters,
            layer.flop / 1e9,
            layer.memory_bytes / 2**20,
        )
        for layer in cost.layers
    ]
    total = ("all", "", "", "", cost.parameters, cost.flop / 1e9, cost.memory_bytes / 2**20)
    table = text_table(("layer", "kind", "kernels", "activations", "parameters", "GFLOP", "MiB"), [*rows, total], 3)
    return (
        f"batch of {cost.batch} patches of {cost.patch} x {cost.patch} pixels\n{table}\n"
        f"{cost.flop_per_pixel / 1e3:.1f} kFLOP a pixel"
    )


def _times(sizes: int | Sequence[int]) -> str:
    return f"{sizes}x{sizes}" if isinstance(sizes, int) else "x".join(map(str, sizes))
