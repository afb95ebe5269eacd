"""What the README says of speed is what was measured: the table holds nothing else, and its rows are lines and ratios
that a reader can check."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import table as writer
from benchmarks.keep import BENCHMARKS, Kept, kept
from benchmarks.scaling import fitted, lengths

SCALING = {
    "metres": [0.1, 0.2, 0.4],
    "density": "production",
    "rss_mb": [300.0, 301.0, 302.4],
    "wall": {"s_a_roll": 0.1, "s_per_m": 3.0, "most_off": 0.021},
}


def keep(folder: Path, name: str, figures: dict[str, Any], machine: str = "a CPU, 2 cores, 8 GB") -> None:
    result = Kept(f"python -m benchmarks.{name}", machine, "0123456789", "2026-01-01T00:00:00+00:00", figures)
    (folder / f"{name}.json").write_bytes(msgspec.json.encode(result))


def test_the_table_has_rows_of_what_was_measured_and_no_others(tmp_path: Path) -> None:
    assert writer.table(tmp_path) == ""
    keep(tmp_path, "scaling", SCALING)
    text = writer.table(tmp_path)
    assert "0.1 to 0.4 m of production web" in text and "2.1 %" in text and "300 to 302 MB" in text
    assert len(re.findall(r"`python -m benchmarks\.\w+`", text)) == 1


def test_figures_of_two_machines_stand_apart(tmp_path: Path) -> None:
    keep(tmp_path, "scaling", SCALING)
    keep(tmp_path, "false_alarms", {"metres": 3.0, "width_px": 256, "alarms": []}, machine="another")
    assert [line for line in writer.table(tmp_path).splitlines() if "commit" in line] == [
        "a CPU, 2 cores, 8 GB; commit 0123456789.",
        "another; commit 0123456789.",
    ]


def test_a_result_without_a_figure_is_named_with_the_command_that_gives_it(tmp_path: Path) -> None:
    keep(tmp_path, "scaling", {"metres": [0.1]})
    with pytest.raises(SystemExit, match=r"scaling\.json has no figure .*python -m benchmarks\.keep scaling"):
        writer.table(tmp_path)


def test_only_what_stands_between_the_markers_of_the_readme_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = tmp_path / "README.md"
    monkeypatch.setattr(writer, "README", readme)
    monkeypatch.setattr(writer, "RESULTS", tmp_path)
    keep(tmp_path, "scaling", SCALING)
    readme.write_text(f"before\n{writer.BEGIN}\nold\n{writer.END}\nafter\n")
    writer.write_table()
    once = readme.read_text()
    writer.write_table()
    assert readme.read_text() == once
    assert once.startswith(f"before\n{writer.BEGIN}\n") and once.endswith(f"{writer.END}\nafter\n")
    assert "old" not in once and "2.1 %" in once
    readme.write_text("no markers")
    with pytest.raises(SystemExit, match="no lines"):
        writer.write_table()


def test_what_the_gate_saves_and_misses_is_a_row_for_each_web(tmp_path: Path) -> None:
    off = {"planted": 5010, "found": 4950, "network_px_per_web_px": 1.8}
    keep(tmp_path, "gate", {"dense": {"off": off, "on": {**off, "found": 4948, "network_px_per_web_px": 0.9}}})
    assert "| 2.0 times less through the network; 4,950 found off, 4,948 on |" in writer.table(tmp_path)


def test_every_row_is_of_a_benchmark_that_there_is() -> None:
    assert all((BENCHMARKS / f"{name}.py").exists() for name in writer.ROWS)
    with pytest.raises(SystemExit, match="no benchmark is called nonsense"):
        kept("nonsense", [])


def test_cost_that_grows_faster_than_the_web_is_off_the_line() -> None:
    metres = lengths(10.0)
    assert metres[0] == 0.1 and metres[-1] == 10.0 and len(metres) == 8
    line = fitted(metres, [0.2 + 3.0 * x for x in metres])
    assert line["s_a_roll"] == pytest.approx(0.2) and line["s_per_m"] == pytest.approx(3.0)
    assert line["most_off"] < 1e-9
    assert fitted(metres, [0.2 + 3.0 * x**1.1 for x in metres])["most_off"] > 0.02
