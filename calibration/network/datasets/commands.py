"""`foilsight dataset`. Imports nothing heavy until a command runs."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter


def stats(
    data: str,
    *,
    threshold: int | None = None,
    defects_only: bool = False,
    part: Literal["all", "train", "validation"] = "all",
    share: float = 0.33,
    side: Literal["top", "bottom", "left", "right"] = "top",
    length_mm: float = 40.0,
    width_px: int = 1024,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Count a data set: pixels, images, components and their areas by class.

    Exit code 1 where a class never appears.

    Parameters
    ----------
    data
        Folder with `images` and `masks` (or `annotations`), in the Severstal or magnetic-tile layout, with recordings
        or with reports that hold surface and classes; a recording; or `rendered:FIRST-LAST` for rendered webs of these
        seeds. `A+B` lays the channels of data sets of the same images beside each other, as of several exposures.
    threshold
        Masks are gray, what is brighter is defect (plain folders).
    defects_only
        Only images with defects (Severstal).
    part
        Of each image: `all`, `train` or `validation` (battery foil).
    share
        How much of each image is for validation (battery foil).
    side
        Where in each image that lies: `top`, `bottom`, `left` or `right` (battery foil).
    length_mm
        Length of each rendered web.
    width_px
        Width of each rendered web.
    json
        Print the result as one JSON object and nothing else.
    """
    import msgspec

    from calibration.network.datasets.opening import open_dataset
    from calibration.network.datasets.statistics import statistics_of, statistics_text

    dataset = open_dataset(
        data,
        threshold=threshold,
        defects_only=defects_only,
        part=part,
        share=share,
        side=side,
        length_mm=length_mm,
        width_px=width_px,
    )
    found = statistics_of(dataset)
    print(msgspec.json.encode(found).decode() if json else statistics_text(found))
    if found.missing:
        print(f"foilsight: {dataset.name}: holds no pixel of {', '.join(found.missing)}", file=sys.stderr)
    return 1 if found.missing else 0
