"""A line through faults of camera and process, from outside: the ledger exact, no event lost or doubled."""

from pathlib import Path

import pytest

from benchmarks.soak import figures, wrong


@pytest.mark.golden
def test_a_line_survives_what_a_plant_does_to_it(tmp_path: Path) -> None:
    found = figures(tmp_path, 40.0)
    assert wrong(found) == [], found
    assert found["line_starts"] == 2
    assert found["camera_killed"] == 1
    assert found["recorder_killed"] == 1
    assert found["recordings"] == 3
    assert {"recording_ended", "recording_back"} <= found["alarms"].keys()
    assert found["swaps"] > 1
    assert {"blind", "degraded"} <= found["states"].keys()
    assert found["events_waited"] == 1
    assert found["unheard_at_the_end"] == 0
