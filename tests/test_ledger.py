"""The ledger: rows in, each exactly once, said truly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_assembly import PITCH_MM, assembled, calibration_of, frame_at

from edge.assembly.assembler import Assembler
from edge.core.types import Coverage
from edge.pipeline.ledger import Ledger

HEIGHT = 16


def entered(seen: np.ndarray, pieces: list[int]) -> tuple[Ledger, list[Coverage]]:
    ledger = Ledger(calibration_of(HEIGHT, 4), PITCH_MM)
    records = []
    for part in np.split(seen, np.cumsum(pieces)[np.cumsum(pieces) < len(seen)]):
        if len(part):
            ledger.push(part[:, None])
            records += ledger.decide(len(part) // 2)
            records += ledger.decide(len(part) - len(part) // 2)
    return ledger, records + ledger.finish()


def states(records: list[Coverage]) -> list[str]:
    """State of every row, the roll's edges as "edge"; fails where rows are left out or said twice."""
    rows: list[str] = []
    for record in records:
        assert record.from_row == len(rows) and record.to_row > record.from_row
        assert record.to_mm - record.from_mm <= 100.0 + 1e-9
        state = "edge" if record.why in ("start", "end") else record.state
        rows += [state] * (record.to_row - record.from_row)
    return rows


def test_states_follow_the_lights() -> None:
    seen = np.array([1] * 5 + [7] * 3 + [15] * 40 + [14] * 4 + [3] * 6 + [15] * 20 + [13] * 2 + [4] * 5, np.uint8)
    _, records = entered(seen, [11] * 10)
    expected = ["edge"] * 5 + ["degraded"] * 3 + ["inspected"] * 40 + ["degraded"] * 4 + ["uninspected"] * 6
    expected += ["inspected"] * 20 + ["degraded"] * 2 + ["edge"] * 5
    assert states(records) == expected
    assert [r.why for r in records if r.state == "degraded"] == [
        "not seen under light 3",
        "not seen under light 0",
        "not seen under light 1",
    ]


def test_lead_in_and_lead_out_are_no_longer_than_a_frame() -> None:
    seen = np.array([1] * 30 + [15] * 30 + [1] * 30, np.uint8)
    ledger, records = entered(seen, [7] * 20)
    expected = ["edge"] * 16 + ["uninspected"] * 14 + ["inspected"] * 30 + ["uninspected"] * 14 + ["edge"] * 16
    assert states(records) == expected
    assert (ledger.totals.edge, ledger.totals.uninspected, ledger.totals.inspected) == (32, 28, 30)


def test_good_web_is_reported_every_hundred_millimetres() -> None:
    _, records = entered(np.full(9000, 15, np.uint8), [256] * 40)
    assert [record.to_row for record in records] == [2000, 4000, 6000, 8000, 9000]


def test_rows_nobody_decided_are_not_covered() -> None:
    ledger = Ledger(calibration_of(HEIGHT, 4), PITCH_MM)
    ledger.push(np.full((5000, 1), 15, np.uint8))
    assert [record.to_row for record in ledger.decide(2100)] == [2000]
    with pytest.raises(ValueError, match="2900 rows"):
        ledger.finish()
    assert ledger.totals.rows == 2000


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(st.sampled_from([0.0, 1.0, 2.0, 2.4, 3.0, 4.0, 7.5, 60.0]), min_size=1, max_size=60),
    lost=st.sets(st.integers(0, 60)),
    torn=st.sets(st.integers(0, 60), max_size=5),
    sign=st.sampled_from([1, -1]),
)
def test_ledger_adds_up_for_any_schedule(steps: list[float], lost: set[int], torn: set[int], sign: int) -> None:
    """Inspected, degraded, uninspected and edges are the encoder's length, and each row is what its frames make it."""
    rows = np.cumsum([0.0, *steps])
    frames = [frame_at(row, k % 4, k, HEIGHT, sign=sign) for k, row in enumerate(rows)]
    kept = [f for f in frames if f.frame_id not in lost and f.frame_id not in torn]
    if not kept:
        return
    calibration = calibration_of(HEIGHT, 4, sign=sign)
    assembler, ledger = Assembler(calibration, 16, PITCH_MM), Ledger(calibration, PITCH_MM)
    strips = assembled(assembler, kept)
    for strip in strips:
        ledger.push(strip.lights_seen)
    records = [record for strip in strips for record in ledger.decide(strip.rows)] + ledger.finish()
    length_mm = abs(kept[-1].encoder_mm - kept[0].encoder_mm) + HEIGHT * PITCH_MM
    assert abs(ledger.totals.rows * PITCH_MM - length_mm) < PITCH_MM
    said = states(records)
    first = rows[kept[0].frame_id]
    seen_by = [set() for _ in said]
    for frame in kept:
        offset = np.arange(len(said)) - (rows[frame.frame_id] - first)
        image_row = offset if sign > 0 else HEIGHT - 1 - offset
        whole = np.abs(image_row - np.rint(image_row)) < 0.01
        six_taps = (np.floor(image_row) >= 2) & (np.floor(image_row) <= HEIGHT - 4)
        there = (image_row > -0.5) & (image_row < HEIGHT - 0.5)
        for row in np.flatnonzero(np.where(whole, there, six_taps)):
            seen_by[row].add(frame.light)
    for row, lights in enumerate(seen_by):
        expected = {4: "inspected", 3: "degraded"}.get(len(lights), "not inspected")
        if expected == "not inspected":
            assert said[row] in ("uninspected", "edge")
        else:
            assert said[row] == expected, (row, lights)


def test_coverage_says_what_share_of_the_web_the_gate_passed_over() -> None:
    calibration = calibration_of(HEIGHT, 4)
    ledger = Ledger(calibration, PITCH_MM)
    seen = np.array([15] * 40 + [14] * 10 + [15] * 50, np.uint8)[:, None]
    ledger.push(seen)
    passed_over = np.full(100, calibration.width, np.int32)
    passed_over[30:45] = 0
    records = [
        *ledger.decide(70, passed_over_px=passed_over[:70]),
        *ledger.decide(20, passed_over_px=passed_over[70:90]),
        *ledger.decide(10),
    ]
    shares = [(one.to_row - one.from_row, one.passed_over) for one in [*records, *ledger.finish()]]
    assert shares == [(40, 0.75), (10, 0.5), (50, 0.8)]
