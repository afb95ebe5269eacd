"""The pictures of a report show the right web at the right place, however long, narrow or badly seen it is."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import files_of_at_most
from numpy.typing import NDArray

from edge.core.errors import EventsError
from edge.core.types import F32, U8, ClassMap, Defect, Surface
from edge.core.web_axes import WebAxes
from edge.service.album import DEFECTS, SECTIONS, Album
from edge.service.pictures import Crop, Look, file_name, height_panel, next_round, palette, write_picture
from edge.service.report import writing
from edge.service.roll_map import RollMap
from edge.service.sections import SHOWN, Sections

PITCH_MM = 0.1


def surface_of(albedo: F32, first_row: int = 0, seen: bool = True) -> Surface:
    normals = np.zeros((3, *albedo.shape), np.float32)
    normals[2] = 1
    valid = np.full(albedo.shape, seen, np.uint8)
    return Surface(normals, albedo, np.full(albedo.shape, np.nan, np.float32), valid, first_row)


def look_of(gray: int, first_row: int, rows: int, width: int) -> Look:
    plane = np.full((rows, width), gray, np.uint8)
    return Look(first_row, plane, plane.copy(), plane.copy(), level(rows, width))


def level(rows: int, width: int) -> NDArray[np.float16]:
    """Normals of flat web."""
    normals = np.zeros((3, rows, width), np.float16)
    normals[2] = 1
    return normals


def test_web_nobody_saw_looks_like_none() -> None:
    seen = Look.at(surface_of(np.ones((32, 40), np.float32)))
    unseen = Look.at(surface_of(np.ones((32, 40), np.float32), seen=False))
    assert np.ptp(seen.albedo) == 0 and np.ptp(unseen.albedo) > 50, "hatched"
    assert np.isnan(unseen.normals).all() and np.ptp(unseen.relief) > 50


def test_hatching_goes_on_from_strip_to_strip() -> None:
    whole = Look.at(surface_of(np.ones((32, 40), np.float32), seen=False)).albedo
    later = Look.at(surface_of(np.ones((17, 40), np.float32), first_row=15, seen=False)).albedo
    np.testing.assert_array_equal(later, whole[15:])


@pytest.mark.parametrize("box", [(0, 0, 5, 5), (195, 990, 200, 1000), (90, 500, 110, 520), (10, 200, 20, 990)])
def test_a_crop_holds_the_end_of_its_box_wherever_it_lies(box: tuple[int, int, int, int]) -> None:
    rows, width = 1000, 200
    web = np.random.default_rng(1).integers(0, 255, (rows, width), np.uint8)
    crop = Crop(box, 1, width, 0, rows)
    for first in range(0, rows, 64):
        piece = web[first : first + 64]
        crop.add(Look(first, piece, piece, piece, level(*piece.shape)))
        crop.add_classes(piece, first)
    np.testing.assert_array_equal(crop.albedo, web[crop.rows, crop.columns])
    np.testing.assert_array_equal(crop.classes, crop.albedo)
    assert crop.columns.start <= box[0] and box[2] <= crop.columns.stop
    assert crop.rows.stop >= box[3] and (crop.rows.start <= box[1] or crop.rows.stop - crop.rows.start == crop.side)


def test_a_sheet_has_a_panel_more_where_truth_is_known() -> None:
    crop = Crop((10, 10, 20, 20), 1, 200, 0, 200)
    without = crop.sheet(palette(3), PITCH_MM, None)
    beside = crop.sheet(palette(3), PITCH_MM, np.zeros((crop.side, crop.side), np.uint8))
    assert 5 * beside.shape[1] == 6 * without.shape[1]


def test_a_bump_stands_out_by_its_height() -> None:
    """A spherical cap 1 mm wide and 10 um high, in a title and as the brightest of the panel."""
    y, x = (np.indices((120, 120)) - 59.5) * PITCH_MM
    radius_mm = (0.5**2 + 0.01**2) / 0.02
    cap = x * x + y * y < 0.25
    z = np.sqrt(radius_mm**2 - x * x - y * y)
    normals = np.where(cap, np.stack([x, y, z]) / radius_mm, np.array([0, 0, 1])[:, None, None]).astype(np.float32)
    panel, title = height_panel(normals, cap, PITCH_MM)
    assert float(title.split()[1]) == pytest.approx(10, abs=0.7)
    assert panel[60, 60] == panel.max() == 255
    assert panel[0, 0] == pytest.approx(127, abs=2)


def test_flat_web_is_shown_flat() -> None:
    panel, _ = height_panel(level(40, 40).astype(np.float32), np.zeros((40, 40), np.bool_), PITCH_MM)
    assert np.ptp(panel) == 0


def map_of(tmp_path: Path, web_mm: float | None, strips: int, width: int = 64) -> tuple[RollMap, U8]:
    """Strips of 100 rows (10 mm), the last of which is black."""
    roll_map = RollMap(["spot"], width, PITCH_MM, web_mm, "albedo")
    for index in range(strips):
        roll_map.add(look_of(0 if index == strips - 1 else 200, 100 * index, 100, width))
    roll_map.write(tmp_path / "map.png", "web")
    return roll_map, np.asarray(cv2.imread(str(tmp_path / "map.png")), np.uint8)


@pytest.mark.parametrize(("web_mm", "strips"), [(50.0, 5), (None, 5), (20.0, 60), (None, 900), (4000.0, 400)])
def test_all_of_the_web_is_on_the_map_however_long(tmp_path: Path, web_mm: float | None, strips: int) -> None:
    roll_map, picture = map_of(tmp_path, web_mm, strips)
    assert picture.shape[1::-1] == roll_map.size_px
    assert picture.shape[0] < 4000
    (*_, (x, y, across, down)) = roll_map.boxes(10.0 * (strips - 1), 10.0 * strips)
    middle = picture[y + down // 2, x + across // 2]
    assert across > 0 and (middle < 100).all(), "the last strip, where the map says it is"
    (before, *_) = roll_map.boxes(10.0 * (strips - 2), 10.0 * (strips - 1))
    assert (picture[before[1] + down // 2, before[0] + before[2] // 2] > 150).all()


def test_an_album_keeps_nothing_of_memory_that_is_used_again(tmp_path: Path) -> None:
    defect = Defect(
        id=1,
        label="spot",
        phase="closed",
        box_mm=(1.0, 1.0, 3.0, 3.0),
        centroid_mm=(2.0, 2.0),
        area_mm2=4.0,
        length_mm=2.0,
        width_mm=2.0,
        orientation_deg=0.0,
        score_mean=0.9,
        score_max=1.0,
        contour_mm=[[(1.0, 1.0), (3.0, 1.0), (3.0, 3.0)]],
    )
    written = []
    for overwritten in (False, True):
        album = Album(["background", "spot"], 100, WebAxes(PITCH_MM), 10.0)
        surface = surface_of(np.linspace(0.5, 1, 10_000, dtype=np.float32).reshape(100, 100))
        classes = ClassMap(np.eye(100, dtype=np.uint8), np.zeros((100, 100), np.uint8), 0)
        album.add_surface(surface)
        album.add_classes(classes)
        if overwritten:
            for plane in (surface.normals, surface.albedo, surface.residual, surface.valid, classes.class_index):
                plane[:] = 0
        album.add_event(defect)
        folder = tmp_path / str(overwritten)
        for name in (folder, folder / DEFECTS, folder / SECTIONS):
            name.mkdir()
        album.write(folder, "web")
        written.append({path.name: path.read_bytes() for path in folder.rglob("*.*")})
    assert len(written[0]) == 5 and written[0] == written[1]


def test_sections_kept_are_those_with_most_defects(tmp_path: Path) -> None:
    width, rows = 1000, 2000
    sections = Sections(["spot"], width, PITCH_MM)
    worst = {3, 7, 8, 11, 15, 19}
    for index in range(20):
        classes = np.zeros((rows, width), np.uint8)
        classes[: 50 if index in worst else 10] = 1
        for half in (0, 1000):
            first = index * rows + half
            sections.add(look_of(100 + index, first, 1000, width))
            sections.add_classes(ClassMap(classes[half : half + 1000], classes[half : half + 1000], first))
    written = sections.write(tmp_path)
    assert len(written) == SHOWN
    assert {round(section.from_mm / (rows * PITCH_MM)) for section in written} == worst
    assert all(path.stat().st_size for section in written for path in section.paths.values())


def test_a_web_without_defects_leaves_a_specimen(tmp_path: Path) -> None:
    sections = Sections(["spot"], 64, PITCH_MM)
    sections.add(look_of(100, 0, 80, 64))
    (section,) = sections.write(tmp_path)
    assert (section.from_mm, section.to_mm, section.defects) == (0.0, 8.0, 0)


def test_a_label_of_any_letters_names_a_file_of_the_folder(tmp_path: Path) -> None:
    write_picture(tmp_path / f"{file_name('../a b/ä')}.png", np.zeros((3, 3, 3), np.uint8))
    (written,) = tmp_path.iterdir()
    assert written.suffix == ".png" and cv2.imdecode(np.fromfile(written, np.uint8), 1).shape == (3, 3, 3)


def test_a_full_disk_is_no_silence(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8)
    with pytest.raises(EventsError, match="cannot be written"), files_of_at_most(4096), writing(tmp_path):
        write_picture(tmp_path / "noise.png", noise)


def test_round_lengths() -> None:
    assert [next_round(least) for least in (0.1, 0.11, 1.0, 3.0, 5.1, 51.2)] == [0.1, 0.2, 1.0, 5.0, 10.0, 100.0]
