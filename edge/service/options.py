"""What a person asks for in words, checked: each function raises ConfigError naming the option."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from msgspec.structs import replace

from edge.core.config import Config, load_config
from edge.core.errors import ConfigError

Json = Annotated[bool, Parameter(name="--json", negative="")]
ConfigFile = Annotated[Path | None, Parameter(name="--config")]
RequireGpu = Annotated[bool, Parameter(name="--require-gpu", negative="")]

PLANES = ("surface", "classes")
"""What `--keep` knows."""


def require(holds: bool, option: str, must_be: str) -> None:
    """Refuse an option's value."""
    if not holds:
        raise ConfigError(f"{option} must be {must_be}")


def rate_of(text: str) -> float:
    """`--rate`: 0 for max, 1 for realtime, or the number."""
    if text in ("max", "realtime"):
        return 0.0 if text == "max" else 1.0
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    require(0 < rate < 1e6, "--rate", f"max, realtime or a number above 0, not {text!r}")
    return rate


def planes_of(text: str) -> frozenset[str]:
    """`--keep`: names with commas between them."""
    planes = frozenset(name.strip() for name in text.split(",") if name.strip())
    require(planes <= set(PLANES), "--keep", f"of {','.join(PLANES)}, not {text!r}")
    return planes


def speeds_of(text: str) -> tuple[float, float]:
    """`--speed`: metres per second at the beginning and at the end."""
    try:
        speeds = [float(part) for part in text.split(":")]
    except ValueError:
        speeds = []
    fits = len(speeds) in (1, 2) and all(0 < speed < 1000 for speed in speeds)
    require(fits, "--speed", "metres per second, as 1 or 0.5:2")
    return speeds[0], speeds[-1]


def settings_of(config: Path | None, require_gpu: bool) -> Config:
    """The configuration, with a GPU or nothing where one is required: TensorRT's, if it names none."""
    settings = load_config(config)
    if not require_gpu or settings.segmentation.backend == "onnxruntime":
        return settings
    return replace(settings, segmentation=replace(settings.segmentation, backend="tensorrt"))
