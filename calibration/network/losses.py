"""Losses for classes that are rare: most of a web is background.

Weights and names are those of the thesis (Morgese, University of Bologna, 2024): `icf` is the inverse class frequency
1/n, `iscf` the inverse square root class frequency 1/sqrt(n), n the pixels of a class in the training data.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from edge.core.types import F32

FOCAL_BACKGROUND, FOCAL_DEFECT = 0.25, 0.75


def inverse_frequency(counts: ArrayLike) -> Tensor:
    """Class weights (classes,) f32 proportional to 1 / pixels of the class, mean 1 over the classes that occur.

    `counts` (classes,): pixels of each class in the training webs; a class that never occurs weighs 0.
    """
    return _weights(counts, lambda pixels: 1 / pixels)


def inverse_square_root_frequency(counts: ArrayLike) -> Tensor:
    """As `inverse_frequency`, proportional to 1 / sqrt(pixels of the class)."""
    return _weights(counts, lambda pixels: 1 / np.sqrt(pixels))


class FocalLoss(nn.Module):
    """Mean over pixels of `-w_c (1 - p_c)^gamma log p_c`, c the true class (Lin et al. 2017, multi-class).

    Called with logits [N,classes,H,W] and truth [N,H,W] of class indices (int64); gives a scalar.
    """

    class_weights: Tensor

    def __init__(self, class_weights: Tensor, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        log_p = F.log_softmax(logits.float(), dim=1).gather(1, truth[:, None])[:, 0]
        return (-self.class_weights[truth] * (1 - log_p.exp()) ** self.gamma * log_p).mean()


class CrossEntropy(nn.CrossEntropyLoss):
    """PyTorch's cross entropy of logits [N,classes,H,W] in full precision; weighted, the mean is the weighted one."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input.float(), target)


class ComponentLoss(nn.Module):
    """Cross entropy in which small components count as well as large ones, plus 1 - Dice of each defect.

    A pixel of a component (8-connected, of one class, within its patch) weighs `(LARGE / area) ** balance`, but at
    least 1, a pixel of background 1: with `balance` 1 every component up to LARGE pixels weighs alike. The sum is
    divided by the number of pixels. Dice is taken of each defect over all of a batch, smoothed by a pixel; the mean is
    over the defects that are in it. `together` times 1 - Dice of all defects as one comes on top: that something is a
    defect is learnt before which one it is. Called as FocalLoss is.
    """

    def __init__(self, balance: float = 0.5, dice: float = 1.0, together: float = 0.0) -> None:
        super().__init__()
        self.balance, self.dice, self.together = balance, dice, together

    def extra_repr(self) -> str:
        together = f", together={self.together:g}" if self.together else ""
        return f"balance={self.balance:g}, dice={self.dice:g}{together}"

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        log_p = F.log_softmax(logits.float(), dim=1)
        weights = torch.from_numpy(component_weights(truth.cpu().numpy(), self.balance)).to(truth.device)
        loss = -(weights * log_p.gather(1, truth[:, None])[:, 0]).mean()
        if self.dice:
            wanted = F.one_hot(truth, logits.shape[1])[..., 1:].movedim(-1, 1).float()
            dice, there = _dice(log_p[:, 1:].exp(), wanted), wanted.sum((0, 2, 3)) > 0
            loss = loss + self.dice * ((1 - dice) * there).sum() / there.sum().clamp(min=1)
        if self.together:
            loss = loss + self.together * (1 - _dice(1 - log_p[:, :1].exp(), (truth > 0)[:, None].float())).sum()
        return loss


def _dice(p: Tensor, wanted: Tensor) -> Tensor:
    """Dice (C,) of planes [N,C,H,W] over all of a batch, smoothed by a pixel."""
    of_class = (0, 2, 3)
    return (2 * (p * wanted).sum(of_class) + 1) / (p.sum(of_class) + wanted.sum(of_class) + 1)


LARGE = 4096
"""Pixels from which on a component weighs by its area."""


def component_weights(truth: NDArray[np.int64], balance: float) -> F32:
    """Weights (N,H,W) f32 of the pixels of patches (N,H,W), as ComponentLoss says."""
    weights = np.ones(truth.shape, np.float32)
    for patch, out in zip(truth, weights, strict=True):
        for k in np.unique(patch[patch > 0]):
            mask = (patch == k).view(np.uint8)
            _, labels, figures, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
            of_label = np.maximum(LARGE / figures[:, cv2.CC_STAT_AREA], 1) ** balance
            here = labels > 0
            out[here] = of_label[labels[here]]
    return weights


class ReducedLoss(nn.Module):
    """A loss of logits [N,classes,H/r,W/r] at `reduction` r, and the middle pixels of truth [N,H,W]."""

    def __init__(self, loss: nn.Module, reduction: int) -> None:
        super().__init__()
        self.loss, self.reduction = loss, reduction

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        middle = slice(self.reduction // 2, None, self.reduction)
        value: Tensor = self.loss(logits, truth[:, middle, middle].contiguous())
        return value


class BceDice(nn.Module):
    """Binary cross entropy of each defect, mean over pixels, plus 1 - Dice of all of a batch, smoothed by one pixel.

    Called with logits [N,classes - 1,H,W] of the defects and truth [N,H,W] of class indices (int64); gives a scalar.
    """

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        logits = logits.float()
        wanted = F.one_hot(truth, logits.shape[1] + 1)[..., 1:].movedim(-1, 1).float()
        p = logits.sigmoid()
        dice = (2 * (p * wanted).sum() + 1) / (p.sum() + wanted.sum() + 1)
        return F.binary_cross_entropy_with_logits(logits, wanted) + 1 - dice


def focal_weights(classes: int) -> Tensor:
    """0.25 for background, 0.75 for every defect."""
    return torch.tensor([FOCAL_BACKGROUND] + [FOCAL_DEFECT] * (classes - 1))


LOSSES: dict[str, Callable[[NDArray[np.int64]], nn.Module]] = {
    "ce": lambda counts: CrossEntropy(),
    "wce_icf": lambda counts: CrossEntropy(_scaled(inverse_frequency(counts))),
    "wce_iscf": lambda counts: CrossEntropy(_scaled(inverse_square_root_frequency(counts))),
    "focal": lambda counts: FocalLoss(focal_weights(len(counts))),
    "fl_icf": lambda counts: FocalLoss(_scaled(inverse_frequency(counts))),
    "fl_iscf": lambda counts: FocalLoss(_scaled(inverse_square_root_frequency(counts))),
}
"""The thesis's losses by name, made of the pixels of each class (classes,) in the training data."""


def _scaled(weights: Tensor) -> Tensor:
    """The thesis's scale: weights of two classes (negative, positive) sum to 1, those of more to their number."""
    return weights / 2 if len(weights) == 2 else weights


def _weights(counts: ArrayLike, of: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Tensor:
    pixels = np.asarray(counts, dtype=np.float64)
    occurs = pixels > 0
    weights = np.zeros(len(pixels))
    weights[occurs] = of(pixels[occurs])
    return torch.as_tensor(weights / weights[occurs].mean(), dtype=torch.float32)
