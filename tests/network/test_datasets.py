"""Data sets of every layout: what is read, what is refused, what is counted."""

import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from calibration.network.datasets.dataset import (
    Dataset,
    DatasetError,
    Entry,
    Meta,
    require_every_class,
    split,
    warn_of_shared_groups,
)
from calibration.network.datasets.folders import Region, cut
from calibration.network.datasets.opening import open_dataset
from calibration.network.datasets.run_length import decode, encode
from calibration.network.datasets.severstal import write_predictions
from calibration.network.datasets.statistics import component_areas, statistics_of
from edge.core.errors import ConfigError, FoilsightError, ImportFolderError
from edge.service.pictures import palette

CLASSES = '[[class]]\nlabel = "good"\n[[class]]\nlabel = "dent"\n[[class]]\nlabel = "scratch"\n'
COLOURED = (
    '[[class]]\nlabel = "good"\ncolour = [0, 0, 0]\n[[class]]\nlabel = "dent"\ncolour = [255, 0, 10]\n'
    '[[class]]\nlabel = "scratch"\ncolour = [0, 7, 255]\n'
)
TRUTH = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [2, 0, 0, 0]], np.uint8)


def put(path: Path, image: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def plain_folder(root: Path, mask: NDArray[np.generic], classes: str = CLASSES, name: str = "a") -> Path:
    put(root / "images" / f"{name}.png", np.arange(12, dtype=np.uint8).reshape(3, 4) * 20)
    put(root / "masks" / f"{name}.png", mask)
    if classes:
        (root / "classes.toml").write_text(classes)
    return root


def indexed_png(path: Path, index: NDArray[np.uint8], colours: list[tuple[int, int, int]]) -> None:
    """An indexed PNG: OpenCV writes none."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row.tobytes() for row in index)
    head = struct.pack(">IIBBBBB", index.shape[1], index.shape[0], 8, 3, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"PLTE", bytes(v for colour in colours for v in colour))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def test_masks_by_index_by_colour_and_by_the_files_own_palette_are_the_same(tmp_path: Path) -> None:
    by_index = plain_folder(tmp_path / "index", TRUTH)
    rgb = np.array([[0, 0, 0], [255, 0, 10], [0, 7, 255]], np.uint8)[TRUTH]
    by_colour = plain_folder(tmp_path / "colour", rgb[:, :, ::-1], COLOURED)
    by_palette = plain_folder(tmp_path / "palette", TRUTH)
    indexed_png(by_palette / "masks" / "a.png", TRUTH, [(9, 9, 9), (200, 0, 0), (0, 0, 200), (9, 9, 9)])
    for folder in (by_index, by_colour, by_palette):
        (sample,) = open_dataset(str(folder))
        np.testing.assert_array_equal(sample.mask, TRUTH)
        assert (sample.image.shape, sample.image.dtype) == ((1, 3, 4), np.float32)
        assert sample.image.max() == pytest.approx(220 / 255)


def test_a_threshold_makes_two_classes_of_a_gray_mask(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path, np.array([[0, 127, 128, 255]] * 3, np.uint8), classes="")
    (sample,) = open_dataset(str(folder), threshold=127)
    np.testing.assert_array_equal(sample.mask, [[0, 0, 1, 1]] * 3)


def test_colours_of_an_image_are_red_green_blue(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path, TRUTH)
    bgr = np.zeros((3, 4, 3), np.uint16)
    bgr[:, :, 2] = 65535
    put(folder / "images" / "a.png", bgr)
    dataset = open_dataset(str(folder))
    assert dataset.channels == ("red", "green", "blue")
    assert dataset[0].image.mean(axis=(1, 2)).tolist() == [1, 0, 0]


def spoil_size(folder: Path) -> None:
    put(folder / "masks" / "a.png", TRUTH[:, :3])


def spoil_class(folder: Path) -> None:
    put(folder / "masks" / "a.png", TRUTH + 1)


def spoil_colour(folder: Path) -> None:
    (folder / "classes.toml").write_text(COLOURED)


def spoil_mask(folder: Path) -> None:
    (folder / "masks" / "a.png").unlink()


def spoil_image(folder: Path) -> None:
    (folder / "images" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nno")


def spoil_classes(folder: Path) -> None:
    (folder / "classes.toml").unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_size, r"a\.png: mask of 3 x 3, image of 3 x 4"),
        (spoil_class, r"a\.png: mask holds class 3, there are 3 classes"),
        (spoil_colour, r"a\.png: colour \(1, 1, 1\) at row 0, column 2 is not in the palette"),
        (spoil_mask, r"a\.png: missing: every image needs its mask"),
        (spoil_image, r"a\.png: not an image"),
        (spoil_classes, r"classes\.toml: cannot be read"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    folder = plain_folder(tmp_path, TRUTH)
    spoil(folder)
    with pytest.raises((DatasetError, ImportFolderError), match=says) as error:
        list(open_dataset(str(folder)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ('[[class]]\nlabel = "good"\n', "names 1 classes"),
        (COLOURED.replace("[0, 7, 255]", "[0, 0, 0]"), "two classes have the same colour"),
        (CLASSES + '[[class]]\nlabel = "x"\ncolour = [1, 2, 3]\n', "every class a colour, or none"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused(tmp_path: Path, classes: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        open_dataset(str(plain_folder(tmp_path, TRUTH, classes)))


def foil_folder(root: Path) -> tuple[Path, NDArray[np.uint8]]:
    truth = np.random.default_rng(3).integers(0, 5, (40, 30), dtype=np.uint8)
    put(root / "images" / "x.png", truth * 40)
    put(root / "annotations" / "x.png", palette(5)[truth])
    (root / "regions.csv").write_text("name,first_row,first_column,rows,columns\nx.png,5,3,30,20\n")
    return root, truth


def test_the_foil_layout_holds_the_top_third_of_each_region_back(tmp_path: Path) -> None:
    folder, truth = foil_folder(tmp_path)
    whole, train, validation = (open_dataset(str(folder), part=p)[0] for p in ("all", "train", "validation"))
    np.testing.assert_array_equal(whole.mask, truth[5:35, 3:23])
    np.testing.assert_array_equal(np.rint(whole.image[0] * 255), truth[5:35, 3:23] * 40)
    np.testing.assert_array_equal(validation.mask, truth[5:15, 3:23])
    np.testing.assert_array_equal(train.mask, truth[15:35, 3:23])
    right = open_dataset(str(folder), part="validation", share=0.25, side="right")[0]
    np.testing.assert_array_equal(right.mask, truth[5:35, 18:23])


@given(
    rows=st.integers(3, 500),
    columns=st.integers(3, 500),
    share=st.floats(0.05, 0.95),
    side=st.sampled_from(["top", "bottom", "left", "right"]),
)
def test_training_and_validation_part_cover_a_region_once(rows: int, columns: int, share: float, side: str) -> None:
    region = Region(slice(7, 7 + rows), slice(2, 2 + columns))
    seen = np.zeros((rows + 20, columns + 20), int)
    for part in ("train", "validation"):
        kept = cut(region, part, share, side)
        seen[kept.rows, kept.columns] += 1
    assert (seen[region.rows, region.columns] == 1).all()
    assert seen.sum() == rows * columns


def test_a_region_outside_its_image_is_refused(tmp_path: Path) -> None:
    folder, _ = foil_folder(tmp_path)
    (folder / "regions.csv").write_text("name,first_row,first_column,rows,columns\nx.png,5,3,36,20\n")
    with pytest.raises(DatasetError, match=r"regions\.csv: the region of x\.png leaves its image of 40 x 30"):
        list(open_dataset(str(folder)))


def test_run_lengths_count_from_one_down_the_columns() -> None:
    mask = decode("2 3 7 1", (3, 3))
    np.testing.assert_array_equal(mask, [[False, True, True], [True, False, False], [True, False, False]])
    assert encode(mask) == "2 3 7 1"


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_run_lengths_come_back(mask: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(decode(encode(mask), mask.shape), mask)


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ("1 4 3 2", "runs 1 and 2 overlap"),
        ("7 1 2 1", "run 2 starts before run 1"),
        ("0 2", "start at 1"),
        ("1 0", "at least 1 long"),
        ("8 3", "ends at pixel 10, the image of 3 x 3 has 9"),
        ("1", "pairs"),
        ("1 x", "whole numbers"),
        ("1 9223372036854775807", "inside the image"),
        ("99999999999999999999 1", "whole numbers"),
    ],
)
def test_run_lengths_that_are_none_are_refused(runs: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        decode(runs, (3, 3))


@given(st.one_of(st.text(), st.lists(st.integers(-3, 40), max_size=8).map(lambda runs: " ".join(map(str, runs)))))
def test_whatever_runs_are_given_they_are_read_or_refused(runs: str) -> None:
    try:
        mask = decode(runs, (5, 4))
    except DatasetError:
        return
    assert mask.sum() == sum(map(int, runs.split()[1::2]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(), st.sampled_from([b"ImageId,ClassId,EncodedPixels\n", b"EncodedPixels,ImageId_ClassId\n", b""]))
def test_whatever_a_table_holds_it_is_read_or_refused(tmp_path: Path, rows: bytes, head: bytes) -> None:
    folder = severstal_folder(tmp_path, "")
    (folder / "train.csv").write_bytes(head + rows)
    with contextlib.suppress(DatasetError):
        list(open_dataset(str(folder)))


def severstal_folder(root: Path, table: str) -> Path:
    for name in ("a", "b"):
        put(root / "train_images" / f"{name}.png", np.full((256, 1600), 90, np.uint8))
    (root / "train.csv").write_text(table)
    return root


def test_the_severstal_layout_is_read_and_predictions_are_written_back(tmp_path: Path) -> None:
    folder = severstal_folder(tmp_path, "ImageId,ClassId,EncodedPixels\na.png,3,1 2 257 1\na.png,1,1000 5\n")
    dataset = open_dataset(str(folder))
    first, second = dataset
    assert len(dataset.classes) == 5
    assert first.mask[:3, :2].tolist() == [[3, 3], [3, 0], [0, 0]]
    assert (first.mask == 1).sum() == 5
    assert not second.mask.any()
    assert [sample.meta.name for sample in open_dataset(str(folder), defects_only=True)] == ["a.png"]
    write_predictions(folder / "out.csv", [(sample.meta.name, sample.mask) for sample in dataset])
    (folder / "out.csv").rename(folder / "train.csv")
    np.testing.assert_array_equal(open_dataset(str(folder))[0].mask, first.mask)
    (folder / "train.csv").write_text("ImageId_ClassId,EncodedPixels\na.png_1,1000 5\na.png_2,\na.png_3,1 2 257 1\n")
    np.testing.assert_array_equal(open_dataset(str(folder))[0].mask, first.mask)


def test_a_speckled_prediction_is_written_and_read_back(tmp_path: Path) -> None:
    folder = severstal_folder(tmp_path, "")
    speckled = (np.random.default_rng(0).random((256, 1600)) < 0.5).astype(np.uint8)
    write_predictions(folder / "train.csv", [("a.png", speckled)])
    np.testing.assert_array_equal(open_dataset(str(folder))[0].mask, speckled)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("a.png,3,1 4 3 2", r"train\.csv: a\.png, class 3: runs 1 and 2 overlap"),
        ("a.png,3,1 4\na.png,2,4 1", r"a\.png: class 2 overlaps class 3"),
        ("a.png,5,1 4", r"line 2: expected ImageId, ClassId 1 to 4"),
        ("a.png,1,1 4\na.png,1,9 1", r"line 3: class 1 of a\.png a second time"),
        ("z.png,1,1 4", r"names z\.png, which is not in"),
        ("a.png", r"line 2: expected"),
        ("a.png,1,1 \r4", r"line 2: not a table"),
    ],
)
def test_a_severstal_table_that_contradicts_itself_is_refused(tmp_path: Path, rows: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        list(open_dataset(str(severstal_folder(tmp_path, f"ImageId,ClassId,EncodedPixels\n{rows}\n"))))


def test_a_steel_strip_of_another_size_is_refused(tmp_path: Path) -> None:
    folder = severstal_folder(tmp_path, "ImageId,ClassId,EncodedPixels\n")
    put(folder / "train_images" / "b.png", np.zeros((256, 1599), np.uint8))
    with pytest.raises(DatasetError, match=r"b\.png: 256 x 1599, expected 256 x 1600"):
        list(open_dataset(str(folder)))


def tile_folder(root: Path) -> Path:
    for folder, files in (("MT_Crack", "ab"), ("MT_Free", "c")):
        for name in files:
            put(root / folder / f"{name}.jpg", np.full((8, 9), 100, np.uint8))
            mask = np.zeros((8, 9), np.uint8)
            mask[2:4, 3:7] = 0 if folder == "MT_Free" else 200
            mask[5, 5] = 127
            put(root / folder / f"{name}.png", mask)
    (root / "runs.json").write_text('{"MT_Crack": [["a.jpg", "b.jpg"]], "MT_Free": [["c.jpg"]]}')
    return root


def test_magnetic_tiles_are_grouped_by_run(tmp_path: Path) -> None:
    dataset = open_dataset(str(tile_folder(tmp_path)))
    assert dataset.classes == ("background", "blowhole", "break", "crack", "fray", "uneven")
    assert dataset.groups == ["MT_Crack/0", "MT_Free/0"]
    assert [np.bincount(sample.mask.ravel(), minlength=6)[3] for sample in dataset] == [8, 8, 0]
    (tmp_path / "runs.json").write_text('{"MT_Crack": [["a.jpg"]], "MT_Free": [["c.jpg"]]}')
    with pytest.raises(DatasetError, match=r"runs\.json: says nothing of MT_Crack/b\.jpg"):
        open_dataset(str(tmp_path))


@pytest.mark.data
@pytest.mark.skipif("FOILSIGHT_DATA" not in os.environ, reason="FOILSIGHT_DATA is not set")
def test_the_magnetic_tiles_are_read_as_they_are() -> None:
    found = statistics_of(open_dataset(os.environ["FOILSIGHT_DATA"] + "/magnetic_tile"))
    assert (found.samples, found.groups, found.missing) == (536, 96, [])


def test_rendered_webs_and_recordings_are_read_through_the_stages(recording: Path) -> None:
    webs = open_dataset("rendered:5-1000004", length_mm=30, width_px=96)
    assert len(webs) == 1_000_000
    sample = webs[1]
    assert sample.image.shape == (3, *sample.mask.shape)
    assert sample.meta.name == "rendered web 6"
    recorded = open_dataset(str(recording))[0]
    assert recorded.image.shape == (3, *recorded.mask.shape)
    tilted = np.hypot(*recorded.image[:2]) > 0.3
    assert recorded.mask[tilted].astype(bool).mean() > 0.8, "slopes lie where the truth has defects"


def test_a_web_shorter_than_a_frame_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a web of 8 mm: must be longer than a frame's 12\.8 mm"):
        open_dataset("rendered:5", length_mm=8)[0]


def toy(groups: str) -> Dataset:
    def load() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        return np.zeros((1, 2, 2), np.float32), np.zeros((2, 2), np.uint8)

    return Dataset("toy", ("a", "b"), ("gray",), [Entry(Meta(str(at), group), load) for at, group in enumerate(groups)])


@given(groups=st.text("abcdefgh", min_size=2, max_size=30), share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_a_split_keeps_groups_whole(groups: str, share: float, seed: int) -> None:
    dataset = toy(groups)
    if len(dataset.groups) < 2:
        with pytest.raises(DatasetError, match="1 group cannot be split"):
            split(dataset, share, seed)
        return
    training, validation = split(dataset, share, seed)
    assert len(training) and len(validation)
    assert len(training) + len(validation) == len(dataset)
    assert not warn_of_shared_groups(training, validation)


def test_a_common_source_of_training_and_validation_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert warn_of_shared_groups(toy("abc"), toy("cbx"))
    assert capsys.readouterr().err == "warning: training and validation share b and 1 more: figures will flatter\n"


def test_statistics_count_pixels_and_objects(tmp_path: Path) -> None:
    mask = np.zeros((3, 4), np.uint8)
    mask[0, 0] = mask[1, 1] = mask[2, 3] = 1
    folder = plain_folder(plain_folder(tmp_path, mask), TRUTH, name="b")
    found = statistics_of(open_dataset(str(folder)))
    assert found.classes["dent"].pixels == 6
    assert found.classes["dent"].components == 3, "corners join"
    assert found.classes["dent"].area_histogram[:2] == [3, 0]
    assert found.classes["scratch"].images == 1
    assert found.classes["good"].share == pytest.approx(15 / 24)
    assert sorted(component_areas(TRUTH == 2)) == [3]


def test_a_class_that_never_appears_is_named() -> None:
    with pytest.raises(DatasetError, match=r"training webs: holds no pixel of b, d: add data"):
        require_every_class(np.array([5, 0, 1, 0]), "abcd", "training webs")


def test_the_command_counts_and_refuses(tmp_path: Path, foilsight: Callable[..., CompletedProcess[str]]) -> None:
    folder = plain_folder(tmp_path, np.minimum(TRUTH, 1))
    result = foilsight("dataset", "stats", folder, "--json")
    assert result.returncode == 1
    assert result.stderr.endswith("holds no pixel of scratch\n")
    assert msgspec.json.decode(result.stdout)["classes"]["dent"]["pixels"] == 6
    spoil_size(folder)
    refused = foilsight("dataset", "stats", folder)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert issubclass(DatasetError, FoilsightError)
