"""The README's table of figures, from what `python -m benchmarks.keep` has left in benchmarks/results.

    python -m benchmarks.table

Writes the table between the two markers in README.md: rows of what was measured, none of anything else.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.keep import RESULTS, Kept

README = RESULTS.parents[1] / "README.md"
BEGIN, END = "<!-- figures: python -m benchmarks.table -->", "<!-- end of figures -->"

Figures = dict[str, Any]
Rows = Iterator[tuple[str, str]]
"""What was measured, and what came of it."""


def _throughput(found: Figures) -> Rows:
    for density, web in found["webs"].items():
        of = f"{web['metres']:g} m of {density} web, {found['width_px']:,} px wide, {found['precision']}"
        yield (
            f"whole line, {of}",
            f"{web['mpix_per_s']['line']:.1f} MPix/s, {_ratio(web['line_of_network'])} of its network alone, "
            f"{_ratio(web['line_of_windows'])} of it in windows with halos; "
            f"{_score(web['found']['line'])}",
        )
        if "line_of_rival" in web:
            yield (
                f"against the same weights in a loop of NumPy, PyTorch and OpenCV, the first {web['rival_metres']:g} m",
                f"{_ratio(web['line_of_rival'])} times as fast, {_score(web['found']['line there'])}; "
                f"the loop: {_score(web['found']['rival'])}",
            )
        if "gated_of_line" in web:
            rival = f", {_ratio(web['gated_of_rival'])} times the loop" if "gated_of_rival" in web else ""
            yield (
                f"behind the gate, {of}",
                f"{web['network_work_saved_times']:.1f} times less through the network, "
                f"{_ratio(web['gated_of_line'])} times as fast{rival}; {_score(web['found']['line, gate on'])}",
            )


def _gate(found: Figures) -> Rows:
    for density, ways in found.items():
        off, on = ways["off"], ways["on"]
        saved = off["network_px_per_web_px"] / on["network_px_per_web_px"]
        yield (
            f"gate on against gate off, {off['planted']:,} objects planted in {density} web with all optics",
            f"{saved:.1f} times less through the network; {off['found']:,} found off, {on['found']:,} on",
        )


def _latency(found: Figures) -> Rows:
    at, run, fastest = found["latency_ms"], found["run"], found["fastest"]
    speed = run["speed_m_per_min"]
    if fastest:
        yield (
            f"largest web speed, {found['width_mm']:.0f} mm wide, every row inspected",
            f"{fastest['speed_m_per_min']:.1f} m/min, held for {fastest['seconds']:.0f} s",
        )
    yield (
        f"from the last strobe to the event at a subscriber, {found['width_mm']:.0f} mm of web at {speed:.1f} m/min",
        f"{at['p50']:.0f} ms median, {at['p99']:.0f} ms p99, {at['p99.9']:.0f} ms p99.9: "
        + ", ".join(f"{at[name] * speed / 60:.0f}" for name in ("p50", "p99", "p99.9"))
        + " mm of web",
    )


def _scaling(found: Figures) -> Rows:
    first, last = found["metres"][0], found["metres"][-1]
    off, memory_mb = 100 * found["wall"]["most_off"], found["rss_mb"]
    yield (
        f"time against length, {first:g} to {last:g} m of {found['density']} web",
        f"a straight line but for {off:.1f} %; {min(memory_mb):.0f} to {max(memory_mb):.0f} MB",
    )


def _normals(found: Figures) -> Rows:
    floor = f"with noise (floor {found['noise_floor_deg']:.2f} degrees)"
    for case, words in (("no noise, whole advances", "no noise"), ("noise, 8 bit, whole advances", floor)):
        errors = found["median_and_p95_deg"][case]
        text = ", ".join(f"{label.replace('_', ' ')} {each[0]:.2f} / {each[1]:.2g}" for label, each in errors.items())
        yield f"error of normals in degrees, {words}, median / 95 %", text


def _surface(found: Figures) -> Rows:
    affected = f"{100 * found['strip']['affected']:g} % of it misled by a light"
    for case, words in (("row term", affected), ("clean web", "clean web")):
        rivals = ", ".join(f"{times:.0f} times {rival}" for rival, times in found[case]["times"].items())
        yield (
            f"surface kernel, {words}",
            f"{found[case]['of_copy_speed']:.2f} of the copy speed{rivals and ', ' + rivals}",
        )


def _rendering(found: Figures) -> Rows:
    plain = found["ideal"]
    yield (
        "rendered web, four lights, one core",
        f"{plain['mpix_per_s']:.1f} MPix/s, {plain['times_numpy']:.0f} times NumPy",
    )


def _memory(found: Figures) -> Rows:
    places = ", ".join(f"{mb:.0f} MB at {at}" for at, mb in found["rss_mb"].items())
    yield f"memory of a replay of {found['metres']:.0f} m", f"{places}; {found['growth_mb_per_metre']:+.2f} MB a metre"


def _camera(found: Figures) -> Rows:
    for case, each in found.items():
        cores = each["camera_process_cores"]
        yield (
            f"simulated camera through Harvesters and the ring, {case}, {each['seconds']:.0f} s",
            f"{each['lost']} of {each['frames']:,} frames lost; camera process {cores:.2f} of a core",
        )


def _camera_cycles(found: Figures) -> Rows:
    for case, each in found.items():
        yield f"camera: {case}, {each['cycles']:,} times", f"{each['kib_a_cycle']:.1f} KiB left behind each time"


def _events(found: Figures) -> Rows:
    listeners = found["listeners"].values()
    lost, doubled, wrong = (sum(each[key] for each in listeners) for key in ("losses", "duplicates", "out_of_order"))
    yield (
        f"{found['published']:,} events, a listener stopped, one slow, one killed, for {found['minutes']:g} minutes",
        f"{lost} lost, {doubled} doubled, {wrong} out of order; publisher {max(found['publisher_rss_mb']):.0f} MB",
    )


def _soak(found: Figures) -> Rows:
    rows, events = found["rows_missing_or_twice"], found["heard_lost"] + found["heard_doubled"]
    yield (
        f"line under faults, its processes killed, the disk full, for {found['seconds']:.0f} s",
        f"{rows} rows missing or told twice, {events} of {found['events']:,} events lost or doubled",
    )


def _flood(found: Figures) -> Rows:
    speed = min(each["speed"]["p50"] for each in found["kinds"].values())
    core = max(each["core"]["p50"] for each in found["kinds"].values())
    yield (
        f"line and a flood where events are asked for again, on one core, worst of {len(found['kinds'])} kinds",
        f"{speed:.2f} of its speed in quiet; {core:.2f} of a core for the flood",
    )


def _false_alarms(found: Figures) -> Rows:
    yield (
        f"{found['metres']:g} m of good web with stains, flutter and real optics, {found['width_px']} px wide",
        f"{len(found['alarms'])} false alarms of the self-check",
    )


def _recall(found: Figures) -> Rows:
    for case, each in found.items():
        if each["all"]["recall"] is None:
            figure = f"{each['all']['events']} false objects"
        else:
            figure = f"{_score(each['all'])} of {each['all']['events']}"
        yield f"objects found, {case}, {each['web_m2']:.3f} m2", figure


def _precision(found: Figures) -> Rows:
    for name, each in found.items():
        if name != "f32":
            recall, precision = (round(100 * each[key], 2) + 0.0 for key in ("recall_gained", "precision_gained"))
            words = f"{recall:+.2f} points of recall, {precision:+.2f} of precision"
            yield f"network in {name}", f"{each['times_f32']:.1f} times f32, {words}"


ROWS: dict[str, Callable[[Figures], Rows]] = {
    "recall": _recall,
    "throughput": _throughput,
    "gate": _gate,
    "latency": _latency,
    "scaling": _scaling,
    "memory": _memory,
    "normals": _normals,
    "surface": _surface,
    "precision": _precision,
    "rendering": _rendering,
    "camera": _camera,
    "camera_cycles": _camera_cycles,
    "events": _events,
    "soak": _soak,
    "flood": _flood,
    "false_alarms": _false_alarms,
}
"""By name of the benchmark, in the order of the table."""


def table(results: Path) -> str:
    """Markdown of all results kept in a folder, by machine. Raises SystemExit where a result lacks a figure."""
    kept = {name: results / f"{name}.json" for name in ROWS if (results / f"{name}.json").exists()}
    found = {name: msgspec.json.decode(path.read_bytes(), type=Kept) for name, path in kept.items()}
    parts = []
    by_machine = sorted(found.items(), key=lambda item: item[1].machine)
    for machine, group in groupby(by_machine, key=lambda item: item[1].machine):
        here = dict(group)
        commits = ", ".join(sorted({each.commit for each in here.values()}))
        parts += [f"{machine}; commit {commits}.", "", "| what | figure | command |", "|---|---|---|"]
        parts += [row for name in ROWS if name in here for row in _lines(name, here[name])]
        parts.append("")
    return "\n".join(parts).strip()


def _lines(name: str, kept: Kept) -> list[str]:
    try:
        rows = list(ROWS[name](kept.figures))
    except KeyError as error:
        raise SystemExit(f"{name}.json has no figure {error}: python -m benchmarks.keep {name}") from error
    commands = [f"`{kept.command}`", *["the same"] * (len(rows) - 1)]
    return [f"| {what} | {figure} | {command} |" for (what, figure), command in zip(rows, commands, strict=True)]


def _ratio(quartiles: dict[str, float]) -> str:
    return f"{quartiles['median']:.2f}" if quartiles["median"] < 2 else f"{quartiles['median']:.1f}"


def _score(score: dict[str, Any]) -> str:
    recall, precision = ("-" if score[key] is None else f"{100 * score[key]:.1f} %" for key in ("recall", "precision"))
    return f"recall {recall} of {score['planted']:,}, precision {precision}"


def write_table() -> None:
    """Put the table between the markers of the README. Raises SystemExit where it has none."""
    before, begin, rest = README.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{README}: no lines '{BEGIN}' and '{END}' for the table to go between")
    README.write_text(f"{before}{BEGIN}\n\n{table(RESULTS)}\n\n{END}{after}")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    write_table()
