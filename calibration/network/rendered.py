"""Training webs: rendered, exposed, assembled and solved by the very stages that run on the line."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.network.sampling import Web
from edge.assembly.assembler import Assembler
from edge.core.calibration import Calibration
from edge.core.errors import ConfigError, RecordingError
from edge.core.faults import Fault, FaultScript
from edge.core.types import U8, Frame, FrameSource, Strip
from edge.segmentation.surface_channels import write_channels
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.faulty import with_faults
from edge.simulation.lights import FOUR_LINE_LIGHTS
from edge.simulation.optics import IDEAL, Optics
from edge.simulation.planting import DENSE
from edge.simulation.web import COARSE, POLISHED, Coating, RenderedWeb
from edge.surface.solver import SurfaceSolver

STRIP_ROWS = 256
PITCH_MM = 0.05
ENOUGH_LIGHTS = 3
LOST_FRAMES = 5
"""Of one light, one after another: some 500 rows are left to the other three."""


def render_webs(seeds: Sequence[int], length_mm: float, width_px: int, channels: Sequence[str]) -> list[Web]:
    """One web a seed, each of another machine, every second of them without one of its lights for a while.

    Says on the error stream how far it is.
    """
    webs = []
    for number, seed in enumerate(seeds, start=1):
        print(f"rendering web {number} of {len(seeds)}", file=sys.stderr, flush=True)
        camera = varied_camera(seed, length_mm, width_px)
        source = camera if number % 2 else WithoutALight(camera, seed)
        webs.append(surface_of(source, camera.web.classes, channels))
    return webs


def varied_camera(seed: int, length_mm: float, width_px: int) -> StrobedCamera:
    """A dense web on a machine of its own: texture, stains, lamps, lens, sensor and motion differ with the seed.

    Raises ConfigError for a web no longer than a frame.
    """
    if length_mm <= (frame_mm := Rig().height_px * PITCH_MM):
        raise ConfigError(f"a web of {length_mm:g} mm: must be longer than a frame's {frame_mm:g} mm")
    rng = np.random.default_rng([seed, 7])
    coating = (POLISHED, Coating(), Coating(), COARSE)[rng.integers(4)]
    relief, tone = rng.uniform(0.6, 1.3, 2)
    coating = Coating(
        slopes=tuple((lattice_mm, deg * relief) for lattice_mm, deg in coating.slopes),
        albedos=tuple((lattice_mm, rms * tone) for lattice_mm, rms in coating.albedos),
    )
    frequencies = replace(DENSE.scaled(rng.uniform(0.5, 1.2)), stains=rng.choice([0.0, 2000.0, 6000.0]))
    rig = Rig(
        lights=tuple(replace(light, intensity=rng.uniform(0.85, 1.15)) for light in FOUR_LINE_LIGHTS),
        bits=int(rng.choice([8, 10, 12])),
        full_well_e=rng.uniform(12000.0, 30000.0),
        flat_level=rng.uniform(0.35, 0.55),
        transport_sign=1 if rng.uniform() < 0.5 else -1,
        optics=_varied_optics(rng),
    )
    advance_px = 32.0 if rng.uniform() < 0.5 else rng.uniform(20.0, 32.0)
    return StrobedCamera(
        RenderedWeb(seed, width_px, frequencies, PITCH_MM, coating), length_mm, rig, Motion(advance_px)
    )


@dataclass(frozen=True)
class WithoutALight:
    """A source that loses frames of one light for a while; where, and which light, differs with the seed."""

    source: StrobedCamera
    seed: int

    @property
    def calibration(self) -> Calibration:
        return self.source.calibration

    @property
    def web_mm(self) -> float:
        return self.source.web_mm

    def frames(self) -> Iterator[Frame]:
        rng = np.random.default_rng([self.seed, 11])
        begin_mm = float(rng.uniform(0.2, 0.6)) * self.source.web_mm
        light = int(rng.integers(self.source.calibration.lights))
        lost = Fault(kind="lost", at_mm=begin_mm, count=LOST_FRAMES, light=light)
        return with_faults(self.source.frames(), FaultScript(fault=[lost]))


def _varied_optics(rng: np.random.Generator) -> Optics:
    """From ideal to somewhat worse than `REAL`; one machine in four is ideal."""
    if rng.uniform() < 0.25:
        return IDEAL
    return Optics(
        gloss=rng.uniform(0.0, 0.5),
        roughness=rng.uniform(0.25, 0.45),
        cast_shadows=True,
        ambient=rng.uniform(0.0, 0.03),
        vignetting=rng.uniform(0.0, 0.3),
        exposure_us=rng.uniform(0.0, 30.0),
        dirt=rng.uniform(0.0, 40.0),
        drift=rng.uniform(0.0, 0.02),
    )


def rendered_web(camera: StrobedCamera, channels: Sequence[str]) -> Web:
    """Surface channels (C, H, W) f32 and truth (H, W) u8 of the rows seen under three lights or more."""
    return surface_of(camera, camera.web.classes, channels)


def surface_of(source: FrameSource, truth: Callable[[int, int], U8], channels: Sequence[str]) -> Web:
    """As `rendered_web`, of any source of frames; `truth(first_row, rows)` gives the classes of rows of web.

    The rows between the first and the last that were seen under three lights, which is enough for normals.
    Raises RecordingError where there are none.
    """
    assembler = Assembler(source.calibration, STRIP_ROWS, source.calibration.pitch_mm or PITCH_MM)
    solver = SurfaceSolver(source.calibration)
    parts, seen = [], []

    def take(strips: Iterator[Strip]) -> None:
        for strip in strips:
            surface = solver.solve(strip)
            part = np.empty((len(channels), *surface.albedo.shape), np.float32)
            write_channels(surface, channels, slice(None), part)
            parts.append(part)
            seen.append(np.isfinite(strip.source_row).sum(axis=0) >= ENOUGH_LIGHTS)

    for frame in source.frames():
        take(assembler.push(frame))
    take(assembler.finish())
    rows = np.flatnonzero(np.concatenate(seen)) if seen else np.array([], np.intp)
    if not rows.size:
        raise RecordingError("no row of the web was seen under three lights: take a longer one")
    first, last = int(rows[0]), int(rows[-1]) + 1
    surface = np.ascontiguousarray(np.concatenate(parts, axis=1)[:, first:last])
    return surface, truth(first, last - first)
