"""The gate in front of the network: what it lets through is decided as without it, and what it passes over is said."""

import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_segmentation import EXACT, GRID, HALO, in_pieces, integers, model_info, segment, surface_of, whole_web

from calibration.network.quantise import write_info
from edge import cli
from edge.core.config import Config, SegmentationConfig
from edge.core.errors import ConfigError
from edge.core.types import F32, U8, ClassMap
from edge.recording.reader import Recording
from edge.segmentation.gate import Bools, CellScores, Gate
from edge.segmentation.model import SHIPPED_MODEL, GateInfo, load_model
from edge.segmentation.stream import Segmenter, open_gate
from edge.segmentation.windows import CELL, cover_axis
from edge.service.evaluate import evaluate

LEARNT = GateInfo(threshold=45.0, noise=[(1e-3, 0.1)] * 3, recall=1.0, objects=1)
GATED = model_info(gate=LEARNT)
NOISE = 0.02


class Drawn(Gate):
    """Marks the cells it is told to, (rows of cells, cells), instead of those that look bad."""

    def __init__(self, marks: Bools, width: int, strip_rows: int) -> None:
        super().__init__(GATED, width, 2 * (strip_rows + HALO))
        self._cells = Told(marks)  # type: ignore[assignment]


class Told:
    """Scores of cells that are known beforehand."""

    def __init__(self, marks: Bools) -> None:
        self._scores = np.where(marks, 1e9, 0).astype(np.float32)
        self._row = 0

    def begin(self) -> None:
        self._row = 0

    def score(self, *_: object) -> F32:
        self._row += 1
        return self._scores[self._row - 1]


def around(marks: Bools, rows: int, width: int) -> Bools:
    """The pixels in marked cells and in the eight cells around each."""
    wide = np.zeros_like(marks)
    for row, column in np.argwhere(marks):
        wide[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    return np.kron(wide, np.ones((CELL, CELL), np.bool_))[:rows, :width]


def together(maps: list[ClassMap]) -> tuple[U8, U8]:
    return np.concatenate([one.class_index for one in maps]), np.concatenate([one.score for one in maps])


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 900),
    width=st.integers(1, 700),
    pushes=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    strip_rows=st.integers(1, 16).map(lambda n: n * 16),
    window_width=st.integers(13, 40).map(lambda n: n * 16),
    share=st.sampled_from([0.0, 0.003, 0.02, 0.1, 1.0]),
    seed=st.integers(0, 99),
)
def test_marked_cells_are_as_without_the_gate_and_all_else_is_background(
    rows: int, width: int, pushes: list[int], strip_rows: int, window_width: int, share: float, seed: int
) -> None:
    planes = integers(seed, rows, width)
    marks = np.random.default_rng(seed).random((-(-rows // CELL), -(-width // CELL))) < share
    segmenter = Segmenter(EXACT, GATED, width, strip_rows, window_width, Drawn(marks, width, strip_rows))
    maps = segment(segmenter, in_pieces(surface_of(planes), pushes))
    looked = around(marks, rows, width)
    for found, wanted in zip(together(maps), whole_web(EXACT, planes), strict=True):
        np.testing.assert_array_equal(found, np.where(looked, wanted, 0))
    np.testing.assert_array_equal(np.concatenate([one.passed_over_px for one in maps]), (~looked).sum(axis=1))


@given(
    marks=st.lists(st.booleans(), min_size=1, max_size=40),
    window=st.integers(13, 40).map(lambda n: n * 16),
    keep=st.tuples(st.integers(0, 20), st.integers(1, 60)).map(lambda ends: (ends[0] * 16, (ends[0] + ends[1]) * 16)),
)
def test_windows_cover_what_is_marked_and_see_a_halo_around_it(
    marks: list[bool], window: int, keep: tuple[int, int]
) -> None:
    length = len(marks) * CELL
    keep = (min(keep[0], length), min(keep[1], length))
    covered = np.zeros(length, np.bool_)
    for one in cover_axis(np.array(marks), keep, 0, length, window, HALO, GRID):
        assert one.stop - one.start == min(window, length)
        assert one.start == 0 or one.keep_start - one.start >= HALO
        assert one.stop == length or one.stop - one.keep_stop >= HALO
        assert not any(edge % GRID for edge in one)
        covered[one.keep_start : one.keep_stop] = True
    wanted = np.repeat(marks, CELL)
    wanted[: keep[0]] = wanted[keep[1] :] = False
    assert covered[wanted].all()
    assert covered.any() == wanted.any()


# What is marked


def web(rows: int, width: int, seed: int = 1, noise: float = NOISE) -> F32:
    planes = np.random.default_rng(seed).normal(0, noise, (3, rows, width)).astype(np.float32)
    planes[2] += 1
    return planes


class Counting:
    """Finds nothing, and counts the pixels it is shown."""

    name = precision = "none"
    pixels = 0

    def infer(self, surface: F32) -> tuple[U8, U8]:
        self.pixels += surface[0, 0].size
        nothing = np.full((1, *surface.shape[2:]), 7, np.uint8)
        return nothing, nothing


def looked_at(planes: F32, pushes: list[int], strip_rows: int = 256) -> tuple[Bools, int]:
    """Which pixels the network was shown, and how many went through it."""
    backend, width = Counting(), planes.shape[2]
    segmenter = Segmenter(backend, GATED, width, strip_rows, 2048, open_gate(GATED, width, strip_rows))
    backend.pixels = 0  # of what was only tried
    return together(segment(segmenter, in_pieces(surface_of(planes), pushes)))[0] == 7, backend.pixels


def test_clean_web_is_passed_over_and_a_small_spot_is_not() -> None:
    planes = web(900, 500)
    looked, pixels = looked_at(planes, [300])
    assert not looked.any() and pixels == 0
    planes[2, 400:403, 250:253] -= 8 * NOISE
    looked, pixels = looked_at(planes, [300])
    np.testing.assert_array_equal(looked, around(np.arange(29)[:, None] * 16 + np.arange(16) == 12 * 16 + 7, 900, 500))
    assert pixels == (3 * CELL + 2 * HALO) ** 2


def test_marks_do_not_depend_on_how_the_web_comes() -> None:
    planes = web(1500, 300)
    planes[0, 700:, :] *= 3
    planes[1, 1000:1004, 31:34] += 0.5
    once = looked_at(planes, [1500])[0]
    assert once.any() and not once.all()
    for pushes, strip_rows in (([7, 90], 64), ([256], 256), ([16], 16)):
        np.testing.assert_array_equal(looked_at(planes, pushes, strip_rows)[0], once)


def test_rougher_web_than_any_learnt_from_is_looked_at_and_a_value_that_is_no_number_too() -> None:
    assert not looked_at(web(600, 300, noise=0.09), [300])[0].any()
    assert looked_at(web(600, 300, noise=1.0), [300])[0].all()
    planes = web(600, 300)
    planes[1, 300, 150] = np.nan
    assert looked_at(planes, [300])[0][300, 150]


def test_a_disturbance_across_the_web_does_not_hide_a_defect_behind_it() -> None:
    planes = web(1200, 300)
    planes[:2, 320:340] += np.random.default_rng(3).normal(0, 0.5, (2, 20, 300)).astype(np.float32)
    planes[2, 350:354, 100:104] -= 8 * NOISE
    assert looked_at(planes, [300])[0][350:354, 100:104].all()


def test_scores_are_the_largest_deviation_relative_to_the_noise() -> None:
    planes = np.ascontiguousarray(web(33, 100, seed=5))
    scores = CellScores(np.array([[1e-6, 1e6]] * 3), 100).score(planes, 0, 33, True)
    boxes = (planes[:, :-1, :-1] + planes[:, :-1, 1:] + planes[:, 1:, :-1] + planes[:, 1:, 1:]).astype(np.float64) / 4
    each = [boxes[:, :, left : min(left + CELL, 99)] for left in range(0, 100, CELL)]
    means = [cell[:, ::2].mean(axis=(1, 2), keepdims=True) for cell in each]
    noise = np.median([cell[:, ::2].var(axis=(1, 2)) for cell in each], axis=0)[:, None, None]
    wanted = [((cell - mean) ** 2 / noise).sum(axis=0).max() for cell, mean in zip(each, means, strict=True)]
    np.testing.assert_allclose(scores, wanted, rtol=1e-3)


# What a model learns


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network without a gate."""
    path, shipped = tmp_path_factory.mktemp("gate") / "without.onnx", load_model(SHIPPED_MODEL)
    write_info(path, onnx.load_from_string(shipped.data), msgspec.structs.replace(shipped.info, gate=None))
    return path


@pytest.fixture(scope="module")
def taught(without: Path) -> Path:
    path = without.with_name("taught.onnx")
    arguments = ["gate", str(without), str(path), "--webs", "3", "--length-mm", "30", "--width-px", "512"]
    assert cli.run_command(arguments) == 0
    return path


def test_a_model_learns_its_gate_and_stays_what_it_is(without: Path, taught: Path) -> None:
    before, after = load_model(without).info, load_model(taught).info
    assert after.gate is not None and after.gate.objects > 20 and after.gate.recall >= 0.9995
    assert after.gate.threshold > 10, "clean web lies below"
    assert "foilsight" in after.provenance["gate"]
    assert msgspec.structs.replace(after, gate=None, provenance=before.provenance) == before
    assert onnx.load(taught).graph == onnx.load(without).graph


def test_with_its_gate_a_network_finds_what_it_finds_without(taught: Path, recording: Path) -> None:
    source = Recording(recording)
    truth = source.truth_classes()
    off, on = (
        evaluate(source, truth, Config(segmentation=SegmentationConfig(model=taught, gate=gate)), quiet=True)
        for gate in (False, True)
    )
    assert off.planted > 50
    assert {label: score.found for label, score in on.per_class.items()} == {
        label: score.found for label, score in off.per_class.items()
    }
    assert on.object_precision is not None and on.object_precision >= off.object_precision


def replayed(config: Path, recording: Path, report: Path) -> int:
    return cli.run_command(["replay", str(recording), "--config", str(config), "--report", str(report), "--json"])


def test_coverage_says_what_was_passed_over_and_a_replay_says_it_twice_the_same(
    taught: Path, recording: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"segmentation = {{ model = '{taught}', gate = true }}")
    heard = []
    for name in ("one", "two"):
        assert replayed(config, recording, tmp_path / name) == 0
        events = [json.loads(line) for line in (tmp_path / name / "events.jsonl").read_text().splitlines()]
        heard.append([event["body"] for event in events if event["topic"] in ("defect", "coverage")])
    shares = [body["passed_over"] for body in heard[0] if "passed_over" in body]
    assert 0 < max(shares) < 1
    assert heard[0] == heard[1]


# Refusals


def test_a_model_that_learnt_no_gate_cannot_use_one() -> None:
    with pytest.raises(ConfigError, match=r"segmentation\.gate is true, but the model has learnt none"):
        open_gate(model_info(), 300, 256)
    with pytest.raises(ConfigError, match=r"segmentation.gate needs a halo of 64, the model's is 32"):
        open_gate(model_info(gate=LEARNT, halo=32), 300, 256)


def test_a_line_refuses_a_gate_its_model_has_not_learnt(
    without: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"segmentation = {{ model = '{without}', gate = true }}")
    assert replayed(config, recording, tmp_path / "report") == 2
    assert capsys.readouterr().err.count("segmentation.gate is true, but the model has learnt none") == 1


def test_a_gate_must_know_the_noise_of_every_channel() -> None:
    with pytest.raises(ValueError, match="noise of 2 channels, not 3"):
        model_info(gate=msgspec.structs.replace(LEARNT, noise=[(0.1, 0.2)] * 2))
