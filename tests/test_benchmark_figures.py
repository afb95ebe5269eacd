"""What the benchmarks of the whole line measure, on a scrap of web: the line, its network alone, the rival beside it,
and the rows of the README's table that are made of it."""

import json
from argparse import Namespace

import pytest

from benchmarks import table as writer
from benchmarks.scaling import measure as scaling
from benchmarks.throughput import measure as throughput
from benchmarks.throughput import print_figures
from edge.segmentation.model import SHIPPED_MODEL


def test_line_and_rival_are_held_against_the_same_truth(capsys: pytest.CaptureFixture[str]) -> None:
    options = Namespace(
        metres=0.03, rival_metres=0.03, width_px=256, strip_rows=256, precision="auto", model=SHIPPED_MODEL, gate=False
    )
    found = throughput(options)
    dense = found["webs"]["dense"]
    line, rival = dense["found"]["line"], dense["found"]["rival"]
    assert dense["found"]["line there"] == line and line["planted"] == rival["planted"] > 5
    assert min(line["recall"], rival["recall"], line["precision"], rival["precision"]) > 0.5
    assert sum(dense["parts_of_time"].values()) == pytest.approx(1) and len(dense["parts_of_time"]) == 5
    assert set(dense["mpix_per_s"]) == {"line", "network alone", "network alone, in windows", "rival"}
    print_figures(found)
    assert "line to its network alone" in capsys.readouterr().out
    rows = [what for what, _ in writer.ROWS["throughput"](json.loads(json.dumps(found)))]
    assert len(rows) == 4 and "dense" in rows[0]


def test_each_length_is_inspected_and_gives_a_row() -> None:
    found = scaling(0.2, 64, "dense", 1)
    assert found["metres"] == [0.1, 0.2] and found["cpu"]["s"][1] > found["cpu"]["s"][0]
    ((what, _),) = writer.ROWS["scaling"](json.loads(json.dumps(found)))
    assert "0.1 to 0.2 m" in what
