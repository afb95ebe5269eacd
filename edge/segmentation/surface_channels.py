"""The planes of a surface by the names models call them."""

from collections.abc import Sequence

import numpy as np

from edge.core.types import F32, Surface

CHANNELS = ("normal_x", "normal_y", "normal_z", "albedo", "residual")


def write_channels(surface: Surface, channels: Sequence[str], rows: slice, out: F32) -> None:
    """Copy the named planes of some rows of a surface into `out` (len(channels), rows, at least its width) f32.

    Columns beyond the surface's width repeat its last one. A residual that is not known counts as 0.
    """
    width = surface.albedo.shape[1]
    for plane, name in zip(out, channels, strict=True):
        plane[:, :width] = _plane(surface, name)[rows]
        if name == "residual":
            np.nan_to_num(plane[:, :width], copy=False, nan=0.0)
        plane[:, width:] = plane[:, width - 1 : width]


def _plane(surface: Surface, name: str) -> F32:
    if name.startswith("normal_"):
        component: F32 = surface.normals["xyz".index(name[-1])]
        return component
    return surface.albedo if name == "albedo" else surface.residual
