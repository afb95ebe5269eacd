"""Where on the web a line was, so that one that is started anew goes on there.

What has been told stands in the outbox; a small file beside it says which encoder position belongs to which web row,
and up to which event it is true: what came after is read from the outbox.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from edge.core.calibration import Calibration
from edge.core.clock import utc_now
from edge.core.types import Alarm, Coverage, Defect
from edge.core.web_axes import WebAxes
from edge.events.envelope import Envelope
from edge.events.outbox import Outbox
from edge.pipeline.ledger import START

PLACE = "place.json"
NOT_RUNNING, BEHIND_A_RESTART = "Foilsight was not running", "behind a restart of Foilsight"
FASTEST_MM_PER_S = 50_000.0
"""More web than passes at this speed since the place was kept cannot have passed: the encoder counts anew."""
_LOOKED_BACK = 10_000
Told = Defect | Coverage | Alarm


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """After event `seq` of `stream`: `roll`, the rows that are covered, the last defect's id; and, at `time`, the web
    row at the near edge of the field, `row`, and the encoder there (None: not known)."""

    version: Literal[1] = 1
    stream: str = ""
    seq: int = 0
    roll: str = ""
    covered_rows: int = 0
    last_defect: int = 0
    time: str = ""
    row: int = 0
    encoder_mm: float | None = None

    def after(self, events: Iterable[Envelope]) -> "Place":
        """The place when these have been told as well. Another roll begins with row 0."""
        place = self
        for event in events:
            if event.roll != place.roll:
                place = Place(roll=event.roll)
            body = event.body
            place = msgspec.structs.replace(
                place,
                stream=event.stream,
                seq=event.seq,
                covered_rows=body.to_row if isinstance(body, Coverage) else place.covered_rows,
                last_defect=max(place.last_defect, body.id) if isinstance(body, Defect) else place.last_defect,
            )
        return place

    def at(self, row: int, encoder_mm: float) -> "Place":
        """The place with another encoder position, as of now."""
        return msgspec.structs.replace(self, row=row, encoder_mm=encoder_mm, time=utc_now())

    def keep(self, folder: Path) -> None:
        """Replace the file in one step. Raises OSError."""
        fresh = folder / f"{PLACE}.new"
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(self))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(folder / PLACE)


def last_place(folder: Path, outbox: Outbox, roll: str) -> Place:
    """Where the line was when it last told anything of this roll; row 0 where it has told nothing.

    A file that cannot be read, or is of another outbox, is as none: then the last events say what was covered, and the
    encoder position is not known. Raises EventsError where the outbox cannot be read.
    """
    try:
        place = msgspec.json.decode((folder / PLACE).read_bytes(), type=Place)
    except (OSError, ValueError):
        place = Place()
    if place.stream != outbox.stream or place.seq > outbox.last_seq:
        place = Place(stream=outbox.stream, seq=max(0, outbox.last_seq - _LOOKED_BACK), roll=roll)
    place = place.after(outbox.since(place.seq))
    return place if place.roll == roll else Place(stream=place.stream, seq=place.seq, roll=roll)


class Resumption:
    """Brings what an inspection tells, whose rows begin with 0, to where the web has got to since `place`.

    Rows that are covered are covered once: those between are told as uninspected, those that are seen again are left
    out, with the defects that lie in them altogether. A defect that was open when the line ended stays open, and what
    is left of it is another one. Where the encoder is back by more than a frame it counts anew: rows go on from where
    they ended, and an alarm, `position_estimated`, says that nobody knows what has passed.
    """

    def __init__(self, place: Place, calibration: Calibration, pitch_mm: float) -> None:
        self._place, self._axes = place, WebAxes(pitch_mm, calibration.transport_angle_deg)
        self._rows_per_mm = calibration.encoder_scale / self._axes.row_mm
        self._most_back_mm = calibration.height / self._rows_per_mm
        self._covered = place.covered_rows
        self._is_resumed = place.covered_rows > 0
        self._begun = False
        self._known = True
        self.first_row = 0

    def begin_at(self, encoder_mm: float) -> None:
        """The inspection's row 0 is at the near edge of the field here; may be said again until rows are told."""
        if self._is_resumed and math.isfinite(encoder_mm):
            passed = self._passed_mm(encoder_mm)
            self._known = passed is not None
            at = self._place.covered_rows if passed is None else self._place.row + passed * self._rows_per_mm
            self.first_row = max(0, round(at))

    def placed(self, bodies: Sequence[Told]) -> Iterator[Told]:
        """The bodies as they are to be told, with what lies between."""
        for body in bodies:
            if isinstance(body, Alarm):
                yield body
            elif isinstance(body, Defect):
                moved = self._moved(body)
                if not self._is_resumed or self._axes.box_px(moved.box_mm)[3] > self._place.covered_rows:
                    yield moved
            else:
                yield from self._between()
                yield from self._uncovered(body)

    def _passed_mm(self, encoder_mm: float) -> float | None:
        """Since the place was kept, by the encoder; None where it cannot be that."""
        place = self._place
        if place.encoder_mm is None:
            return None
        passed_mm = encoder_mm - place.encoder_mm
        try:
            seconds = (datetime.fromisoformat(utc_now()) - datetime.fromisoformat(place.time)).total_seconds()
        except ValueError:
            return None
        return passed_mm if -self._most_back_mm <= passed_mm <= FASTEST_MM_PER_S * max(1.0, seconds) else None

    def _between(self) -> Iterator[Told]:
        """Before the first rows: what nobody has seen."""
        if self._begun:
            return
        self._begun = True
        if self._is_resumed and not self._known:
            yield Alarm(
                kind="position_estimated",
                since=utc_now(),
                detail=f"rows go on from {self._covered * self._axes.row_mm:.1f} mm: the encoder counts anew, or "
                "nobody knows what it said, so how much web has passed before is not known",
            )
        if self.first_row > self._covered:
            unseen = Coverage(from_row=0, to_row=0, from_mm=0.0, to_mm=0.0, state="uninspected", why=NOT_RUNNING)
            yield self._at(self._covered, self.first_row, unseen)

    def _uncovered(self, body: Coverage) -> Iterator[Told]:
        why = BEHIND_A_RESTART if body.why == START and self._is_resumed else body.why
        from_row = max(self._covered, body.from_row + self.first_row)
        to_row = body.to_row + self.first_row
        if to_row > from_row:
            yield self._at(from_row, to_row, msgspec.structs.replace(body, why=why))

    def _at(self, from_row: int, to_row: int, body: Coverage) -> Coverage:
        self._covered = to_row
        from_mm, to_mm = from_row * self._axes.row_mm, to_row * self._axes.row_mm
        return msgspec.structs.replace(body, from_row=from_row, to_row=to_row, from_mm=from_mm, to_mm=to_mm)

    def _moved(self, defect: Defect) -> Defect:
        if not self._is_resumed:
            return defect
        mm, before = self.first_row * self._axes.row_mm, self._place.last_defect
        x0, y0, x1, y1 = defect.box_mm
        return msgspec.structs.replace(
            defect,
            id=defect.id + before,
            merged_into=None if defect.merged_into is None else defect.merged_into + before,
            box_mm=(x0, y0 + mm, x1, y1 + mm),
            centroid_mm=(defect.centroid_mm[0], defect.centroid_mm[1] + mm),
            contour_mm=[[(x, y + mm) for x, y in polygon] for polygon in defect.contour_mm],
        )
