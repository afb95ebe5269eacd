"""A line that is started again goes on where it was on the web, and no row is told twice or not at all."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_recording import calibration_of

from edge.core.types import Alarm, Coverage, Defect, RowState
from edge.events import EventWriter, Outbox
from edge.events.envelope import Body
from edge.service.resuming import BEHIND_A_RESTART, NOT_RUNNING, PLACE, Place, Resumption, last_place

HEIGHT, PITCH_MM = 64, 0.05
CALIBRATION = calibration_of(HEIGHT, 128)


def cover(from_row: int, to_row: int, state: RowState = "inspected", why: str = "") -> Coverage:
    return Coverage(
        from_row=from_row, to_row=to_row, from_mm=from_row * PITCH_MM, to_mm=to_row * PITCH_MM, state=state, why=why
    )


def defect(number: int, first_row: int, last_row: int) -> Defect:
    y0, y1 = first_row * PITCH_MM, last_row * PITCH_MM
    return Defect(
        id=number, label="crack", phase="closed", box_mm=(1.0, y0, 2.0, y1), centroid_mm=(1.5, (y0 + y1) / 2),
        area_mm2=1.0, length_mm=1.0, width_mm=1.0, orientation_deg=0.0, score_mean=1.0, score_max=1.0,
        contour_mm=[[(1.0, y0)]],
    )  # fmt: skip


def place(covered_rows: int, row: int, encoder_mm: float | None) -> Place:
    return Place(covered_rows=covered_rows, row=row, encoder_mm=encoder_mm, last_defect=7).at(row, encoder_mm or 0.0)


def resumed(kept: Place, encoder_mm: float) -> Resumption:
    resumption = Resumption(kept, CALIBRATION, PITCH_MM)
    resumption.begin_at(encoder_mm)
    return resumption


def coverages(bodies: Iterable[Body]) -> list[Coverage]:
    return [body for body in bodies if isinstance(body, Coverage)]


def assert_exact(told: Sequence[Coverage], from_row: int) -> None:
    for each in told:
        assert each.from_row == from_row
        assert each.to_row > from_row
        from_row = each.to_row


def test_the_first_time_nothing_is_moved() -> None:
    bodies = [defect(1, 3, 9), cover(0, 64, "uninspected", "start"), cover(64, 100)]
    assert list(resumed(Place(), 1234.5).placed(bodies)) == bodies


def test_what_nobody_saw_lies_between() -> None:
    told = coverages(
        resumed(place(1000, 936, 500.0), 510.0).placed([cover(0, 64, "uninspected", "start"), cover(64, 200)])
    )
    rows = [(each.from_row, each.to_row, each.state, each.why) for each in told]
    first = 936 + 200  # 10 mm at 0.05 mm a row
    assert rows == [
        (1000, first, "uninspected", NOT_RUNNING),
        (first, first + 64, "uninspected", BEHIND_A_RESTART),
        (first + 64, first + 200, "inspected", ""),
    ]


def test_web_that_stood_is_not_covered_twice() -> None:
    resumption = resumed(place(1000, 936, 500.0), 500.0)
    told = list(
        resumption.placed([defect(1, 10, 20), defect(2, 30, 90), cover(0, 64, "uninspected", "start"), cover(64, 100)])
    )
    assert [(each.from_row, each.to_row) for each in coverages(told)] == [(1000, 1036)]
    (found,) = [body for body in told if isinstance(body, Defect)]
    assert found.id == 2 + 7
    assert found.box_mm[1] == pytest.approx((936 + 30) * PITCH_MM)
    assert found.contour_mm[0][0][1] == found.box_mm[1]


@pytest.mark.parametrize(("kept_mm", "now_mm"), [(500.0, 3.0), (None, 500.0), (500.0, 1e9)])
def test_an_encoder_that_counts_anew_is_told(kept_mm: float | None, now_mm: float) -> None:
    kept = place(1000, 936, 500.0)
    if kept_mm is None:
        kept = msgspec.structs.replace(kept, encoder_mm=None)
    told = list(resumed(kept, now_mm).placed([cover(0, 100)]))
    assert isinstance(told[0], Alarm)
    assert told[0].kind == "position_estimated"
    assert "50.0 mm" in told[0].detail
    assert [(each.from_row, each.to_row) for each in coverages(told)] == [(1000, 1100)]


@given(
    st.integers(1, 5000),
    st.integers(-HEIGHT, 0),
    st.floats(-50, 400),
    st.lists(st.integers(1, 300), min_size=1, max_size=9),
)
def test_whatever_the_encoder_says_each_row_is_covered_once(
    covered: int, behind: int, moved_mm: float, lengths: list[int]
) -> None:
    resumption = resumed(place(covered, covered + behind, 500.0), 500.0 + moved_mm)

    def ran() -> Iterator[Coverage]:
        row = 0
        for length in lengths:
            yield cover(row, row + length)
            row += length

    assert_exact(coverages(resumption.placed(list(ran()))), covered)


ORIGIN = {"line": "t", "model": "m", "calibration": "c"}


def test_the_place_is_that_after_the_last_event_whatever_was_kept(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.sqlite") as outbox, EventWriter(outbox, None, 1.0, roll="7", **ORIGIN) as writer:
        told = Place(stream=outbox.stream, roll="7").after(writer.publish(cover(0, 100), defect(3, 5, 6)))
        told.at(36, 12.5).keep(tmp_path)
        writer.publish(defect(4, 110, 120), cover(100, 200))
        found = last_place(tmp_path, outbox, "7")
        assert (found.covered_rows, found.last_defect, found.row, found.encoder_mm) == (200, 4, 36, 12.5)
        assert last_place(tmp_path, outbox, "8").covered_rows == 0
        for torn in (b"", b"{}", b"not json", b'{"version":2}'):
            (tmp_path / PLACE).write_bytes(torn)
            found = last_place(tmp_path, outbox, "7")
            assert (found.covered_rows, found.last_defect, found.encoder_mm) == (200, 4, None)


def test_another_outbox_is_another_web(tmp_path: Path) -> None:
    Place(stream="gone", seq=99, covered_rows=500).keep(tmp_path)
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        assert last_place(tmp_path, outbox, "").covered_rows == 0
