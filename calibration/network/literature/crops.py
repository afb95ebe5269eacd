"""Training images drawn at random: whole ones or crops, of which dark ones may be passed over."""

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.network.datasets.dataset import DatasetError
from calibration.network.literature.images import Images, Survey, intensity_channels
from calibration.network.literature.recipes import Recipe
from calibration.network.sampling import mirror_signs
from calibration.network.unet import require_grid
from edge.core.errors import ConfigError
from edge.core.types import F32, U8

IMAGES_TRIED, CROPS_TRIED = 20, 100
"""A crop that is bright enough is looked for in so many images, so often in each."""
WHITE = 255.0


class Crops:
    """Draws images (count,C,H,W) with their truth, as a recipe says: crops or whole, mirrored, brighter or darker.

    Images are drawn of those at `indices`, each as likely. `whole_image`: the truth is (count,), 1 where there is any
    defect, instead of (count,H,W). Raises ConfigError and DatasetError for images that do not fit; drawing raises
    DatasetError where no crop is bright enough.
    """

    def __init__(
        self,
        images: Images,
        found: Survey,
        recipe: Recipe,
        *,
        grid: int,
        seed: int,
        indices: Sequence[int],
        whole_image: bool = False,
    ) -> None:
        channels = images.dataset.channels
        self._images, self._recipe, self._indices, self._whole_image = images, recipe, indices, whole_image
        self._random = np.random.default_rng(seed)
        self._bright = intensity_channels(channels)
        self._signs = mirror_signs(channels, "normal_y"), mirror_signs(channels, "normal_x")
        if recipe.least_intensity > 0 and not self._bright:
            raise ConfigError(f"{images.dataset.name}: only normals, no channel has an intensity to choose crops by")
        _check_sizes(images.dataset.name, found.sizes[indices], recipe.crop, grid)

    @property
    def state(self) -> str:
        """Where the drawing stands, for `restore`."""
        return json.dumps(self._random.bit_generator.state)

    def restore(self, state: str) -> None:
        """Go on as from `state`."""
        self._random.bit_generator.state = json.loads(state)

    def draw(self, count: int) -> tuple[F32, NDArray[np.int64]]:
        """Images (count,C,H,W) f32 and their truth (count,H,W) or (count,) i64."""
        drawn = [self._changed(*self._taken()) for _ in range(count)]
        truth = [np.array(mask.any()) if self._whole_image else mask for _, mask in drawn]
        return np.stack([image for image, _ in drawn]), np.stack(truth).astype(np.int64)

    def _taken(self) -> tuple[F32, U8]:
        crop = self._recipe.crop
        if crop is None:
            return self._images[self._any()]
        for _ in range(IMAGES_TRIED):
            image, mask = self._images[self._any()]
            for _ in range(CROPS_TRIED):
                row, column = (int(self._random.integers(size - crop + 1)) for size in mask.shape)
                here = (slice(row, row + crop), slice(column, column + crop))
                if self._is_bright(image[:, *here]):
                    return image[:, *here], mask[here]
        raise DatasetError(
            f"{self._images.dataset.name}: no crop of {crop} x {crop} pixels in {IMAGES_TRIED * CROPS_TRIED} has a "
            f"mean intensity above {self._recipe.least_intensity:g} of {WHITE:g}: lower the limit or take smaller crops"
        )

    def _any(self) -> int:
        return self._indices[int(self._random.integers(len(self._indices)))]

    def _is_bright(self, crop: F32) -> bool:
        limit = self._recipe.least_intensity
        return limit <= 0 or float(crop[self._bright].mean()) * WHITE > limit

    def _changed(self, image: F32, mask: U8) -> tuple[F32, U8]:
        recipe = self._recipe
        if recipe.mirrored:
            for axis, signs in enumerate(self._signs):
                if self._random.random() < 0.5:
                    image, mask = np.flip(image, axis + 1) * signs, np.flip(mask, axis)
        if recipe.brightness > 0:
            image = image.copy()
            image[self._bright] *= np.float32(1 + self._random.uniform(-recipe.brightness, recipe.brightness))
        return image, mask


def _check_sizes(name: str, sizes: NDArray[np.int64], crop: int | None, grid: int) -> None:
    if crop is not None:
        require_grid(crop, grid)
        if sizes.min() < crop:
            rows, columns = sizes[sizes.min(axis=1).argmin()]
            raise DatasetError(
                f"{name}: an image of {rows} x {columns} holds no crop of {crop} pixels: make it smaller"
            )
    elif (sizes != sizes[0]).any():
        raise DatasetError(f"{name}: images of several sizes cannot be trained on whole: give the side of a --crop")
    elif (sizes % grid).any():
        raise DatasetError(
            f"{name}: images of {sizes[0, 0]} x {sizes[0, 1]}, not multiples of {grid}: give the side of a --crop"
        )
