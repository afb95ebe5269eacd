"""Which defects lie where: planted from the seed alone, so any part of the web can be asked for first.

The web is cut into cells along transport; the defects that start in a cell are drawn from a generator seeded with
(seed, class, cell). Sizes are those of the thesis: agglomerations 0.3-3 mm, cavities 0.1-0.5 mm, cracks thin and
branching, blade trails 10-500 mm along transport.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

LABELS = ("background", "agglomeration", "crack", "cavity", "blade_trail")
"""Class labels in the thesis's order; a class index is a position in this tuple."""
STAIN, AGGLOMERATION, CRACK, CAVITY, BLADE_TRAIL = 0, 1, 2, 3, 4
"""A stain is good web of another shade: it belongs to the background."""

CELL_MM = 20.0
LONGEST_MM = 520.0
_CELLS_BEFORE = int(LONGEST_MM / CELL_MM) + 1


@dataclass(frozen=True)
class Frequencies:
    """Defects that start per square metre of web. `cavities` counts those on their own; `cavities_per_agglomeration`
    adds those beside one."""

    agglomerations: float
    cavities: float
    cavities_per_agglomeration: float
    cracks: float
    blade_trails: float
    stains: float = 0.0

    def scaled(self, factor: float) -> "Frequencies":
        """All frequencies of defects times a factor."""
        return replace(
            self,
            agglomerations=self.agglomerations * factor,
            cavities=self.cavities * factor,
            cracks=self.cracks * factor,
            blade_trails=self.blade_trails * factor,
        )


DENSE = Frequencies(
    agglomerations=26500.0, cavities=5000.0, cavities_per_agglomeration=0.33, cracks=10000.0, blade_trails=250.0
)
"""Near the pixel shares of the thesis's Table 3.1: 2.39 % agglomeration, 0.86 % crack, 0.06 % cavity, 1.17 % trail."""
PRODUCTION = DENSE.scaled(0.0112)
"""A good line: about 0.05 % of the pixels are defects."""
CLEAN = DENSE.scaled(0.0)


@dataclass(frozen=True)
class Planted:
    """One planted defect as primitives, lengths in mm, web coordinates.

    `ellipses` (k, 8): centre x, y, semi-axes a, b, cosine and sine of the axis, relief, albedo factor;
    `grooves` (k, 8): from x, y to x, y, half-width there and there, depth, albedo factor.
    """

    class_index: int
    ellipses: F64 = field(default_factory=lambda: np.zeros((0, 8)))
    grooves: F64 = field(default_factory=lambda: np.zeros((0, 8)))

    @property
    def box_mm(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1) around everything."""
        reach = np.maximum(self.ellipses[:, 2], self.ellipses[:, 3])
        half = np.maximum(self.grooves[:, 4], self.grooves[:, 5])
        x = [self.ellipses[:, 0] - reach, self.ellipses[:, 0] + reach]
        y = [self.ellipses[:, 1] - reach, self.ellipses[:, 1] + reach]
        for end in (0, 2):
            x += [self.grooves[:, end] - half, self.grooves[:, end] + half]
            y += [self.grooves[:, end + 1] - half, self.grooves[:, end + 1] + half]
        xs, ys = np.concatenate(x), np.concatenate(y)
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())

    @property
    def relief_mm(self) -> float:
        """Height of the highest point, negative for the depth of the deepest."""
        if len(self.grooves):
            return -float(self.grooves[:, 6].max())
        return float(self.ellipses[np.abs(self.ellipses[:, 6]).argmax(), 6])

    @property
    def length_mm(self) -> float:
        """Longest run: of a crack or trail its grooves one after another, otherwise the longest axis."""
        if len(self.grooves):
            return float(np.hypot(*(self.grooves[:, 2:4] - self.grooves[:, 0:2]).T).sum())
        return float(2 * self.ellipses[:, 2:4].max())

    @property
    def width_mm(self) -> float:
        """Width of the widest groove, or the shortest axis of the largest ellipse."""
        if len(self.grooves):
            return float(2 * self.grooves[:, 4:6].max())
        return float(2 * self.ellipses[self.ellipses[:, 2].argmax(), 2:4].min())


def planted_between(
    seed: int, width_mm: float, frequencies: Frequencies, from_mm: float, to_mm: float
) -> list[Planted]:
    """Every defect that reaches into web [from_mm, to_mm), in the order of cells."""
    first = int(np.floor(from_mm / CELL_MM)) - _CELLS_BEFORE
    last = int(np.floor(to_mm / CELL_MM)) + 1
    found = []
    for cell in range(max(first, -_CELLS_BEFORE), last + 1):
        for defect, box in _cell(seed, width_mm, frequencies, cell):
            if box[1] < to_mm and box[3] > from_mm:
                found.append(defect)
    return found


@lru_cache(maxsize=256)
def _cell(
    seed: int, width_mm: float, frequencies: Frequencies, cell: int
) -> list[tuple[Planted, tuple[float, float, float, float]]]:
    area_m2 = CELL_MM * width_mm * 1e-6
    y0 = cell * CELL_MM

    def draw(class_index: int, per_m2: float) -> tuple[np.random.Generator, F64]:
        rng = np.random.default_rng([seed, class_index, cell + _CELLS_BEFORE])
        count = int(rng.poisson(per_m2 * area_m2))
        return rng, rng.uniform([0.0, y0], [width_mm, y0 + CELL_MM], (count, 2))

    defects: list[Planted] = []
    rng, places = draw(AGGLOMERATION, frequencies.agglomerations)
    for x, y in places:
        agglomeration = _agglomeration(rng, x, y)
        defects.append(agglomeration)
        if rng.uniform() < frequencies.cavities_per_agglomeration:
            around = rng.uniform(0, 2 * np.pi)
            away = float(agglomeration.ellipses[0, 2:4].max()) * rng.uniform(1.2, 1.6) + 0.35
            defects.append(_cavity(rng, x + away * np.cos(around), y + away * np.sin(around)))
    for class_index, per_m2, make in (
        (CRACK, frequencies.cracks, _crack),
        (CAVITY, frequencies.cavities, _cavity),
        (BLADE_TRAIL, frequencies.blade_trails, _blade_trail),
        (STAIN, frequencies.stains, _stain),
    ):
        rng, places = draw(class_index, per_m2)
        defects += [make(rng, x, y) for x, y in places]
    return [(defect, defect.box_mm) for defect in defects]


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _agglomeration(rng: np.random.Generator, x: float, y: float) -> Planted:
    """A lump of one main and a few smaller lobes; large ones are flatter. (1 - r^2)^2 is steepest with 1.54 a / R."""
    radius = _log_uniform(rng, 0.3, 3.0) / 2
    steepest = np.radians(rng.uniform(9.0, 26.0) * (0.3 / radius) ** 0.25 if radius > 0.3 else rng.uniform(9.0, 26.0))
    relief = np.tan(steepest) * radius / 1.54
    tone = rng.uniform(0.88, 1.1)
    lobes = []
    for lobe in range(1 + int(rng.integers(2, 5))):
        size = 0.82 if lobe == 0 else rng.uniform(0.55, 0.75)
        away = 0.0 if lobe == 0 else rng.uniform(0.3, 1.0 - size / 2) * radius
        around, axis = rng.uniform(0, 2 * np.pi, 2)
        a, b = radius * size * rng.uniform([0.85, 0.75], [1.1, 1.0])
        lobes.append(
            [
                x + away * np.cos(around),
                y + away * np.sin(around),
                a,
                b,
                np.cos(axis),
                np.sin(axis),
                relief * size * (0.85 if lobe == 0 else 0.6),
                tone,
            ]
        )
    return Planted(AGGLOMERATION, ellipses=np.array(lobes))


def _cavity(rng: np.random.Generator, x: float, y: float) -> Planted:
    """A pit with steep walls and a flat floor: (1 - r^4)^2 is steepest with 2.42 d / R."""
    radius = _log_uniform(rng, 0.1, 0.5) / 2
    depth = np.tan(np.radians(rng.uniform(25.0, 50.0))) * radius / 2.42
    axis = rng.uniform(0, np.pi)
    b = radius * rng.uniform(0.75, 1.0)
    return Planted(
        CAVITY, ellipses=np.array([[x, y, radius, b, np.cos(axis), np.sin(axis), -depth, rng.uniform(0.55, 0.85)]])
    )


def _stain(rng: np.random.Generator, x: float, y: float) -> Planted:
    """A patch that is darker or brighter, without relief; some as small and sharp as a defect."""
    tone = rng.uniform(0.55, 0.9) if rng.uniform() < 0.7 else rng.uniform(1.1, 1.35)
    radius = _log_uniform(rng, 0.1, 4.0)
    axis = rng.uniform(0, np.pi)
    b = radius * rng.uniform(0.15, 1.0)
    return Planted(STAIN, ellipses=np.array([[x, y, radius, b, np.cos(axis), np.sin(axis), 0.0, tone]]))


def _crack(rng: np.random.Generator, x: float, y: float) -> Planted:
    """A wandering groove with up to three branches, thinner towards its ends."""
    length = _log_uniform(rng, 2.0, 16.0)
    half_width = rng.uniform(0.04, 0.1)
    depth = np.tan(np.radians(rng.uniform(25.0, 45.0))) * half_width / 1.54
    tone = rng.uniform(0.6, 0.95)
    heading = rng.uniform(0, 2 * np.pi)
    main = _wander(rng, x, y, heading, length)
    grooves = [_tapered(main, half_width, depth, tone)]
    for _ in range(int(rng.integers(0, 4))):
        at = int(rng.integers(1, len(main)))
        turn = rng.choice([-1.0, 1.0]) * np.radians(rng.uniform(25.0, 65.0))
        along = main[at] - main[at - 1]
        bx, by = main[at]
        branch = _wander(rng, bx, by, float(np.arctan2(along[1], along[0])) + turn, length * rng.uniform(0.15, 0.4))
        grooves.append(_tapered(branch, half_width * rng.uniform(0.6, 0.9), depth * 0.8, tone))
    return Planted(CRACK, grooves=np.concatenate(grooves))


def _blade_trail(rng: np.random.Generator, x: float, y: float) -> Planted:
    """A groove along transport that hardly wanders."""
    length = _log_uniform(rng, 10.0, 500.0)
    return blade_trail(
        x,
        y,
        length,
        half_width_mm=rng.uniform(0.15, 0.35),
        steepest_deg=rng.uniform(6.0, 16.0),
        sway_mm=rng.uniform(0.0, 0.25),
        phase=rng.uniform(0, 2 * np.pi),
        tone=rng.uniform(0.92, 1.05),
    )


def blade_trail(
    x_mm: float,
    y_mm: float,
    length_mm: float,
    half_width_mm: float,
    steepest_deg: float,
    sway_mm: float = 0.0,
    phase: float = 0.0,
    tone: float = 1.0,
) -> Planted:
    """A blade trail from (x, y) on along transport; it sways by `sway_mm` over 120 mm."""
    along = np.linspace(0.0, length_mm, max(2, int(np.ceil(length_mm)) + 1))
    across = x_mm + sway_mm * (np.sin(2 * np.pi * along / 120.0 + phase) - np.sin(phase))
    points = np.stack([across, y_mm + along], axis=1)
    depth = np.tan(np.radians(steepest_deg)) * half_width_mm / 1.54
    count = len(points) - 1
    half = np.full((count, 2), half_width_mm)
    rest = np.tile([depth, tone], (count, 1))
    return Planted(BLADE_TRAIL, grooves=np.concatenate([points[:-1], points[1:], half, rest], axis=1))


def _wander(rng: np.random.Generator, x: float, y: float, heading: float, length: float, step: float = 0.15) -> F64:
    count = max(3, round(length / step))
    headings = heading + np.cumsum(rng.normal(0.0, 0.18, count))
    steps = step * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    start = np.array([[x, y]])
    return np.concatenate([start, start + np.cumsum(steps, axis=0)])


def _tapered(points: F64, half_width: float, depth: float, tone: float) -> F64:
    along = np.linspace(-1.0, 1.0, len(points))
    half = np.maximum(half_width * (1.0 - 0.5 * along**2), 0.03)
    rest = np.tile([depth, tone], (len(points) - 1, 1))
    return np.concatenate([points[:-1], points[1:], half[:-1, None], half[1:, None], rest], axis=1)
