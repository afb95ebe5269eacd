"""Losses for classes that are rare: most of a web is background."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn


def inverse_square_root_frequency(counts: ArrayLike) -> Tensor:
    """Class weights (classes,) f32 proportional to 1 / sqrt(pixels of the class), mean 1 over the classes that occur.

    `counts` (classes,): pixels of each class in the training webs; a class that never occurs weighs 0.
    """
    pixels = np.asarray(counts, dtype=np.float64)
    occurs = pixels > 0
    weights = np.zeros(len(pixels))
    weights[occurs] = 1 / np.sqrt(pixels[occurs])
    return torch.as_tensor(weights / weights[occurs].mean(), dtype=torch.float32)


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
