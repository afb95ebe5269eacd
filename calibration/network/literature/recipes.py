"""The systems of the literature by name.

`itwm_*`: synthetic data for the segmentation of defects on metal (Fraunhofer ITWM), crops biased by intensity.
`severstal*`: steel strips, an image classifier before a small U-Net. `car_parts*`: DeepLabV3+ over ResNet-50.
What a source leaves open (batch and rate of `itwm_*`, batch and crop of `car_parts*`) is our choice.
"""

from dataclasses import dataclass

from edge.core.errors import ConfigError

CROPS = (128, 192, 256)


@dataclass(frozen=True)
class Recipe:
    """A network of the table and how it is trained, by Adam at a constant rate.

    `crop`: side of the square crops in pixels, None for whole images; one is taken where its mean intensity (0..255) is
    above `least_intensity`. `mirrored`: along both axes at random; `brightness`: the share by which it is changed, up
    or down. `classifier`: the network that first tells clean images from those with defects. `narrow`: by how much
    the published widths of its networks are divided.
    """

    name: str
    network: str
    loss: str = "ce"
    learning_rate: float = 1e-3
    batch: int = 8
    crop: int | None = None
    least_intensity: float = 0.0
    mirrored: bool = False
    brightness: float = 0.0
    classifier: str | None = None
    narrow: int = 1


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("itwm_fcn", "fcn", crop=CROPS[-1], least_intensity=10, mirrored=True),
        Recipe("itwm_deeplabv3", "deeplabv3", crop=CROPS[-1], least_intensity=10, mirrored=True),
        Recipe("itwm_unet", "unet", crop=CROPS[-1], least_intensity=10, mirrored=True),
        Recipe("severstal", "elu_unet", loss="bce_dice", batch=32, classifier="resnet50"),
        Recipe("severstal_one_step", "elu_unet", loss="bce_dice", batch=32),
        Recipe("car_parts", "deeplabv3plus", crop=CROPS[-1], mirrored=True, brightness=0.2),
        Recipe("car_parts_plain", "deeplabv3plus_plain", crop=CROPS[-1], mirrored=True, brightness=0.2),
    )
}


def recipe_of(name: str) -> Recipe:
    """A recipe by its name. Raises ConfigError."""
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}: choose of {', '.join(RECIPES)}")
    return RECIPES[name]
