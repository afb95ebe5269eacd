"""A rendered metre of web that comes round again and again: long webs from memory, which cost nothing to render."""

from collections.abc import Iterator
from dataclasses import replace

from edge.core.calibration import Calibration
from edge.core.types import Frame
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.planting import DENSE, PRODUCTION, Frequencies
from edge.simulation.web import RenderedWeb

DENSITIES: dict[str, Frequencies] = {"dense": DENSE, "production": PRODUCTION}
LAP_FRAMES, ADVANCE_PX = 624, 32  # a metre less 1.6 mm: as often each of the four lights
SEED = 21


class Laps:
    """The metre `width_px` wide in memory: 0.16 GB at 1,024 px."""

    def __init__(self, width_px: int, density: str) -> None:
        web = RenderedWeb(SEED, width_px, DENSITIES[density])
        self._frame_mm = ADVANCE_PX * web.pitch_mm
        rows = LAP_FRAMES * ADVANCE_PX + Rig().height_px - ADVANCE_PX
        camera = StrobedCamera(web, rows * web.pitch_mm)
        self._lap = list(camera.frames())
        assert len(self._lap) == LAP_FRAMES
        self.calibration: Calibration = camera.calibration

    def frames(self, metres: float) -> Iterator[Frame]:
        """Every exposure of so many metres."""
        lap_mm, lap_ns = LAP_FRAMES * self._frame_mm, self._lap[-1].exposed_ns + self._lap[1].exposed_ns
        for index in range(round(metres * 1000 / self._frame_mm)):
            turn, at = divmod(index, LAP_FRAMES)
            frame = self._lap[at]
            yield replace(
                frame,
                frame_id=index,
                encoder_mm=frame.encoder_mm + turn * lap_mm,
                exposed_ns=frame.exposed_ns + turn * lap_ns,
            )
