"""The ledger: every web row is exactly one of inspected, degraded, uninspected. Nothing passes unseen in silence."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.core.calibration import Calibration
from edge.core.photometry import lights_of, lights_solvable
from edge.core.types import U8, Coverage, RowState
from edge.core.web_axes import WebAxes

START, END = "start", "end"
REPORT_EVERY_MM = 100.0
_NAMED_LIGHTS = 4


@dataclass
class Totals:
    """Web rows by what became of them; `edge` are the uninspected ones of the roll's lead-in and lead-out."""

    inspected: int = 0
    degraded: int = 0
    uninspected: int = 0
    edge: int = 0

    @property
    def rows(self) -> int:
        """All rows."""
        return self.inspected + self.degraded + self.uninspected + self.edge


@dataclass(frozen=True)
class _Verdict:
    state: RowState
    why: str


_TOO_FEW = _Verdict("uninspected", "seen under too few lights")


class Ledger:
    """Turns the lights each row was seen under into coverage, a record at each change and at least every 100 mm.

    A row is in no record before it is decided: until then nobody has looked for defects in it.
    The uninspected rows that open the roll, no more than a frame's height, are its lead-in (`why` "start"); those that
    close it its lead-out ("end").
    """

    def __init__(self, calibration: Calibration, pitch_mm: float) -> None:
        self.totals = Totals()
        self._calibration = calibration
        self._row_mm = WebAxes(pitch_mm, calibration.transport_angle_deg).row_mm
        self._longest = max(1, int(REPORT_EVERY_MM / self._row_mm))
        self._verdicts: dict[bytes, _Verdict] = {}
        self._open = _Verdict("uninspected", START)
        self._from_row = 0
        self._to_row = 0
        self._passed_over = np.zeros(0, np.int32)  # pixels, of rows from _from_row on; of those beyond its end, none
        self._undecided: U8 = np.empty((0, -(-calibration.lights // 8)), np.uint8)

    def push(self, lights_seen: U8) -> None:
        """Remember the next rows; `lights_seen` (rows, ceil(n/8)) u8 bit mask as in `Strip`."""
        self._undecided = np.concatenate([self._undecided, lights_seen])

    def decide(
        self,
        rows: int,
        lost: NDArray[np.bool_] | None = None,
        why: str = "",
        passed_over_px: NDArray[np.int32] | None = None,
    ) -> list[Coverage]:
        """Enter the next `rows` of those remembered: what is in them has been told.

        `lost` (rows,): those that were seen, and not decided, because of `why`. `passed_over_px` as in `ClassMap`, left
        out or empty for none.
        """
        if passed_over_px is not None and passed_over_px.any():
            uncounted = np.zeros(self._to_row - self._from_row - len(self._passed_over), np.int32)
            self._passed_over = np.concatenate([self._passed_over, uncounted, passed_over_px])
        records: list[Coverage] = []
        lights_seen, self._undecided = self._undecided[:rows], self._undecided[rows:]
        lost = np.zeros(len(lights_seen), np.bool_) if lost is None else lost
        changes = np.flatnonzero((lights_seen[1:] != lights_seen[:-1]).any(axis=1) | (lost[1:] != lost[:-1])) + 1
        for first, last in zip([0, *changes], [*changes, len(lights_seen)], strict=True):
            verdict = self._judge(lights_seen[first])
            if lost[first] and verdict.state != "uninspected":
                verdict = _Verdict("uninspected", why)
            self._enter(verdict, int(last - first), records)
        return records

    def turn(self, calibration: Calibration | None = None) -> list[Coverage]:
        """End the record that is open: rows to come are another model's, or another calibration's."""
        if calibration is not None:
            self._calibration = calibration
            self._verdicts.clear()
        records: list[Coverage] = []
        self._record(self._to_row, records)
        return records

    def finish(self) -> list[Coverage]:
        """Close the roll. Raises ValueError while rows are undecided."""
        if len(self._undecided):
            raise ValueError(f"{len(self._undecided)} rows of web were assembled and never decided")
        records: list[Coverage] = []
        if self._open == _TOO_FEW:
            end_from = max(self._from_row, self._to_row - self._calibration.height)
            self._record(end_from, records)
            self._open = _Verdict("uninspected", END)
        self._record(self._to_row, records)
        return records

    def _judge(self, mask: U8) -> _Verdict:
        key = mask.tobytes()
        if key not in self._verdicts:
            n = self._calibration.lights
            seen = lights_of(mask, n)
            if len(seen) == n:
                verdict = _Verdict("inspected", "")
            elif lights_solvable(self._calibration.light_directions, mask):
                verdict = _Verdict("degraded", _missing(set(range(n)) - set(seen)))
            else:
                verdict = _TOO_FEW
            self._verdicts[key] = verdict
        return self._verdicts[key]

    def _enter(self, verdict: _Verdict, rows: int, records: list[Coverage]) -> None:
        """Append rows of one verdict; those of the lead-in keep their own."""
        if self._open.why == START and verdict == _TOO_FEW:
            lead_in = min(rows, max(0, self._calibration.height - self._to_row))
            self._to_row += lead_in
            rows -= lead_in
        if rows == 0:
            return
        if verdict != self._open:
            self._record(self._to_row, records)
            self._open = verdict
        self._to_row += rows
        while self._to_row - self._from_row > self._longest:
            self._record(self._from_row + self._longest, records)

    def _record(self, to_row: int, records: list[Coverage]) -> None:
        if to_row <= self._from_row:
            return
        rows = to_row - self._from_row
        here, self._passed_over = self._passed_over[:rows], self._passed_over[rows:]
        kind = "edge" if self._open.why in (START, END) else self._open.state
        setattr(self.totals, kind, getattr(self.totals, kind) + rows)
        records.append(
            Coverage(
                from_row=self._from_row,
                to_row=to_row,
                from_mm=self._from_row * self._row_mm,
                to_mm=to_row * self._row_mm,
                state=self._open.state,
                why=self._open.why,
                passed_over=round(float(here.sum()) / (rows * self._calibration.width), 4),
            )
        )
        self._from_row = to_row


def _missing(lights: set[int]) -> str:
    names = [str(light) for light in sorted(lights)]
    shown = ", ".join(names[:_NAMED_LIGHTS]) + (" ..." if len(names) > _NAMED_LIGHTS else "")
    return f"not seen under light {shown}"
