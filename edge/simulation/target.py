"""A calibration target under the camera: a sheet of dark dots on a square grid, lying still or carried by the web."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.calibration import Calibration
from edge.core.types import F32, Frame
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.planting import CLEAN
from edge.simulation.web import RenderedWeb

_OVERSAMPLE = 4
_GROUND, _DOT = 1.4, 0.15
"""Albedos: white paper is brighter than the coating that the exposure is made for."""


@dataclass(frozen=True)
class DotGrid:
    """`columns` x `rows` dots of `dot_mm` diameter, `spacing_mm` apart, on a sheet that ends `spacing_mm` beyond them.

    The sheet's middle lies at (`x_mm`, `y_mm`) on the web at encoder 0; it is turned by `turn_deg` from +x towards +y.
    """

    columns: int = 41
    rows: int = 61
    spacing_mm: float = 1.0
    dot_mm: float = 0.5
    x_mm: float = 0.0
    y_mm: float = 0.0
    turn_deg: float = 0.0

    def albedo(self, x_mm: F32, y_mm: F32, blur_mm: float) -> F32:
        """Albedo at points of the web, 0.5 beside the sheet; edges ramp over `blur_mm`."""
        turn = np.radians(self.turn_deg)
        dx, dy = x_mm - np.float32(self.x_mm), y_mm - np.float32(self.y_mm)
        u = (dx * np.float32(np.cos(turn)) + dy * np.float32(np.sin(turn))) / np.float32(self.spacing_mm)
        v = (dy * np.float32(np.cos(turn)) - dx * np.float32(np.sin(turn))) / np.float32(self.spacing_mm)
        i, j = _nearest(u, self.columns), _nearest(v, self.rows)
        away_mm = np.hypot(u - i, v - j) * np.float32(self.spacing_mm)
        inside = np.clip((self.dot_mm / 2 - away_mm) / blur_mm + 0.5, 0, 1)
        albedo = _GROUND + (_DOT - _GROUND) * inside
        on_sheet = (np.abs(u) < (self.columns + 1) / 2) & (np.abs(v) < (self.rows + 1) / 2)
        shown: F32 = np.where(on_sheet, albedo, 0.5).astype(np.float32)
        return shown


def _nearest(along: NDArray[Any], count: int) -> NDArray[Any]:
    """Position of the nearest of `count` dots around 0, one apart."""
    half = np.float32((count - 1) / 2)
    nearest: NDArray[Any] = np.clip(np.rint(along + half), 0, 2 * half) - half
    return nearest


@dataclass(frozen=True)
class TargetCamera:
    """A FrameSource that sees a target when the encoder says each of `encoder_mm`, the lights firing in turn.

    The truth: `pitch_mm`, `transport_angle_deg` and `encoder_scale` as in `Calibration`, the sign in the rig.
    `blur_px`: one standard deviation of the lens's blur. The light is the rig's, its fall-off and noise too.
    """

    target: DotGrid = DotGrid()
    encoder_mm: Sequence[float] = (0.0,) * 8
    width_px: int = 512
    pitch_mm: float = 0.05
    transport_angle_deg: float = 0.0
    encoder_scale: float = 1.0
    blur_px: float = 0.8
    rig: Rig = field(default_factory=Rig)
    seed: int = 1

    @cached_property
    def calibration(self) -> Calibration:
        """What the line knows of this camera: the exact one of a rendered web."""
        web = RenderedWeb(self.seed, self.width_px, CLEAN, self.pitch_mm)
        return StrobedCamera(web, self.rig.height_px * self.pitch_mm, self.rig).calibration

    @property
    def web_mm(self) -> float:
        """Length of web seen."""
        return max(self.encoder_mm) - min(self.encoder_mm) + self.rig.height_px * self.pitch_mm

    def frames(self) -> Iterator[Frame]:
        """Every exposure in order. The same camera gives the same frames."""
        calibration, rig = self.calibration, self.rig
        assert calibration.dark is not None and calibration.flat is not None
        rng = np.random.default_rng(self.seed)
        per_electron = rig.white / rig.full_well_e
        for index, encoder_mm in enumerate(self.encoder_mm):
            light = index % calibration.lights
            dark = calibration.dark[light]
            counts = dark + (calibration.flat[light] - dark) * self._seen(encoder_mm)
            if rig.noise:
                variance = counts * per_electron + (rig.read_noise_e * per_electron) ** 2
                counts += np.sqrt(variance) * rng.standard_normal(counts.shape, np.float32)
            pixels = np.rint(np.clip(counts, 0, rig.white)).astype(np.uint8 if rig.bits == 8 else np.uint16)
            pixels.setflags(write=False)
            yield Frame(pixels, light, index, encoder_mm, index * 1_000_000, rig.optics.exposure_us)

    def _seen(self, encoder_mm: float) -> F32:
        """Albedo (h, w) after the lens, over each pixel's square."""
        h, w = self.rig.height_px, self.width_px
        margin = int(np.ceil(4 * self.blur_px)) + 1
        row, column = (self._fine(count, margin) for count in (h, w))
        angle = np.radians(self.transport_angle_deg)
        along = self.rig.transport_sign * row[:, None]
        p = np.float32(self.pitch_mm)
        y_mm = p * (along * np.float32(np.cos(angle)) - column * np.float32(np.sin(angle)))
        x_mm = p * (column * np.float32(np.cos(angle)) + along * np.float32(np.sin(angle)))
        y_mm += np.float32(encoder_mm * self.encoder_scale)
        fine = self.target.albedo(x_mm, y_mm, self.pitch_mm / _OVERSAMPLE)
        if self.blur_px > 0:
            fine = np.asarray(cv2.GaussianBlur(fine, (0, 0), self.blur_px * _OVERSAMPLE), np.float32)
        inner = fine[margin * _OVERSAMPLE : -margin * _OVERSAMPLE, margin * _OVERSAMPLE : -margin * _OVERSAMPLE]
        seen: F32 = inner.reshape(h, _OVERSAMPLE, w, _OVERSAMPLE).mean(axis=(1, 3), dtype=np.float32)
        return seen

    @staticmethod
    def _fine(count: int, margin: int) -> NDArray[np.float32]:
        """Samples along `count` pixels and a margin, in pixels from the middle of the image."""
        samples = np.arange((count + 2 * margin) * _OVERSAMPLE)
        return ((samples + 0.5) / _OVERSAMPLE - margin - count / 2).astype(np.float32)
