"""A camera over the rendered web: four strobed line lights, one exposure each, while the web moves."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edge.core.calibration import Calibration
from edge.core.line_light import LineLight, field_directions
from edge.core.types import F32, Frame
from edge.simulation.exposure import Sensor, expose, fine_rows_under
from edge.simulation.lights import FOUR_LINE_LIGHTS
from edge.simulation.optics import IDEAL, Optics, gloss_tables, lamp_strength, lens_transmission
from edge.simulation.response import Response
from edge.simulation.web import OVERSAMPLE, VERSION, RenderedWeb

_DEVIATES = 1 << 20


@dataclass(frozen=True)
class Rig:
    """Camera and lights. `flat_level` and `dark_level` are parts of white; noise is in electrons."""

    height_px: int = 256
    lights: tuple[LineLight, ...] = FOUR_LINE_LIGHTS
    bits: int = 8
    transport_sign: int = 1
    flat_level: float = 0.45
    dark_level: float = 0.015
    full_well_e: float = 20000.0
    read_noise_e: float = 12.0
    noise: bool = True
    optics: Optics = IDEAL

    @property
    def white(self) -> float:
        """The count at which the sensor saturates."""
        return float(2**self.bits - 1)


@dataclass(frozen=True)
class Motion:
    """How the web moves: from one speed evenly to another; `advance_px` pixels a frame at the higher of the two.

    At constant speed every frame advances alike, as with an encoder trigger; while the speed changes the camera runs
    freely, so advances are smaller and broken.
    """

    advance_px: float = 32.0
    from_m_per_s: float = 1.0
    to_m_per_s: float = 1.0

    def speed_mm_per_s(self, at_ns: int, length_mm: float) -> float:
        """Speed at a time of the roll."""
        total_s = 2 * length_mm / (1000.0 * (self.from_m_per_s + self.to_m_per_s))
        part = min(1.0, at_ns * 1e-9 / total_s)
        return 1000.0 * (self.from_m_per_s + part * (self.to_m_per_s - self.from_m_per_s))

    def positions(self, length_mm: float, pitch_mm: float) -> Iterator[tuple[float, int]]:
        """(encoder in mm, time in ns) of each exposure until the encoder has gone `length_mm`."""
        fastest = max(self.from_m_per_s, self.to_m_per_s) * 1000.0
        interval_s = self.advance_px * pitch_mm / fastest
        constant = self.from_m_per_s == self.to_m_per_s
        total_s = 2 * length_mm / (1000.0 * (self.from_m_per_s + self.to_m_per_s))
        index = 0
        while True:
            t = index * interval_s
            gain = 1000.0 * (self.to_m_per_s - self.from_m_per_s) / (2 * total_s)
            at = index * self.advance_px * pitch_mm if constant else 1000.0 * self.from_m_per_s * t + gain * t * t
            if at > length_mm + 1e-9 or (not constant and t > total_s):
                return
            yield at, round(t * 1e9)
            index += 1


@dataclass(frozen=True)
class StrobedCamera:
    """A FrameSource that renders: light k fires on frames k, k + n, ...; frames cover `length_mm` of web."""

    web: RenderedWeb
    length_mm: float
    rig: Rig = Rig()
    motion: Motion = Motion()

    @property
    def web_mm(self) -> float:
        """Length of web from the first row seen to the last."""
        return self._positions[-1][0] + self.rig.height_px * self.web.pitch_mm

    @property
    def rows(self) -> int:
        """Web rows that are seen at least in part."""
        return int(np.ceil(self.web_mm / self.web.pitch_mm - 1e-6))

    @property
    def frame_count(self) -> int:
        """Number of exposures."""
        return len(self._positions)

    @property
    def generator(self) -> dict[str, str]:
        """What made this web, for the recording."""
        return {"name": "foilsight rendered web", "version": VERSION, "seed": str(self.web.seed)}

    @cached_property
    def _positions(self) -> list[tuple[float, int]]:
        travel = max(0.0, self.length_mm - self.rig.height_px * self.web.pitch_mm)
        return list(self.motion.positions(travel, self.web.pitch_mm))

    @cached_property
    def _irradiance(self) -> F32:
        """(n, 3, h, w) f32: counts that albedo 1 turned towards x, y or z gives; row r of the image in web axes."""
        h, w, p = self.rig.height_px, self.web.width_px, self.web.pitch_mm
        rows = self.rig.transport_sign * (np.arange(h) - (h - 1) / 2) * p
        y, x = np.meshgrid(rows, (np.arange(w) - (w - 1) / 2) * p, indexing="ij")
        fields = np.stack([light.irradiance(x, y) for light in self.rig.lights])
        level = (self.rig.flat_level - self.rig.dark_level) * self.rig.white
        scaled: F32 = (fields * (level / fields[:, 2].mean())).astype(np.float32)
        return scaled * self._transmission[0]

    @cached_property
    def _transmission(self) -> tuple[F32, F32]:
        """Vignetting and dirt, (h, w) each."""
        return lens_transmission(self.rig.height_px, self.web.width_px, self.rig.optics, self.web.seed)

    @cached_property
    def calibration(self) -> Calibration:
        """The exact calibration: flat field on a target of albedo 1, directions and their change along image rows."""
        h, w = self.rig.height_px, self.web.width_px
        directions, per_row = field_directions(self.rig.lights, h, w, self.web.pitch_mm, self.rig.transport_sign)
        dark = np.full((len(self.rig.lights), h, w), self.rig.dark_level * self.rig.white, np.float32)
        return Calibration(
            height=h,
            width=w,
            light_directions=directions,
            light_directions_per_row=per_row,
            dark=dark,
            flat=dark + self._irradiance[:, 2],
            white=self.rig.white,
            pitch_mm=self.web.pitch_mm,
            transport_sign=self.rig.transport_sign,
            origin=f"rendered web {VERSION}",
        )

    def frames(self) -> Iterator[Frame]:
        """Every exposure in order. The same camera gives the same frames."""
        lights = len(self.rig.lights)
        for (frame,) in self._exposed(lambda index: [index % lights]):
            yield frame

    def exposures(self) -> Iterator[list[Frame]]:
        """At each position of `frames` one under every light, as if each had fired alone."""
        every = range(len(self.rig.lights))
        return self._exposed(lambda _index: every)

    def _exposed(self, lights_at: Callable[[int], Iterable[int]]) -> Iterator[list[Frame]]:
        rig, pitch, sign = self.rig, self.web.pitch_mm, self.rig.transport_sign
        h, w = rig.height_px, self.web.width_px
        seen = self._irradiance * self._transmission[1]
        offset = (rig.dark_level + rig.optics.ambient * (rig.flat_level - rig.dark_level)) * rig.white
        response, sensor = self._response(), self._sensor()
        first_row = 0 if sign > 0 else h - 1
        for index, (at_mm, at_ns) in enumerate(self._positions):
            row = first_row + at_mm / pitch
            speed = self.motion.speed_mm_per_s(at_ns, self.length_mm)
            first, weights = fine_rows_under(round(row * OVERSAMPLE, 6), self._blur_fine_rows(speed))
            response.render(first + len(weights) + ((h - 1) * OVERSAMPLE if sign > 0 else 0))
            starts = np.random.default_rng([self.web.seed, index]).integers(0, _DEVIATES - w, h)
            frames = []
            for light in lights_at(index):
                lit = weights * np.float32(lamp_strength(light, at_mm, rig.optics))
                pixels = np.empty((h, w), np.uint8 if rig.bits == 8 else np.uint16)
                expose(pixels, response.rows, light, seen[light], first, sign, lit, offset, sensor, starts)
                pixels.setflags(write=False)
                frames.append(Frame(pixels, light, index, first_row * pitch + at_mm, at_ns, rig.optics.exposure_us))
            yield frames

    def _blur_fine_rows(self, speed_mm_per_s: float) -> float:
        """How far the web moves on during a strobe."""
        return speed_mm_per_s * self.rig.optics.exposure_us * 1e-6 / self.web.pitch_mm * OVERSAMPLE

    def _response(self) -> Response:
        optics = self.rig.optics
        fastest = 1000.0 * max(self.motion.from_m_per_s, self.motion.to_m_per_s)
        first, weights = fine_rows_under(0.0, self._blur_fine_rows(fastest))
        return Response(
            self.web,
            from_fine_row=first,
            view_fine_rows=self.rig.height_px * OVERSAMPLE + len(weights) + 1,
            towards=self.calibration.light_directions.astype(np.float32),
            gloss=gloss_tables(self.rig.lights, self.web.width_px, self.web.pitch_mm, optics),
            cast=optics.cast_shadows,
        )

    def _sensor(self) -> Sensor:
        rig = self.rig
        per_electron = rig.white / rig.full_well_e if rig.noise else 0.0
        deviates = np.random.Generator(np.random.SFC64(self.web.seed)).standard_normal(_DEVIATES, np.float32)
        return Sensor(per_electron, rig.read_noise_e * per_electron, rig.white, deviates)
