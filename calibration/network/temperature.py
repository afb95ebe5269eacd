"""Probabilities that are what they say: one temperature and an offset for each class."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from calibration.network.networks.network import LineNetwork
from calibration.network.sampling import Webs
from calibration.network.thresholds import probabilities
from edge.core.types import F32

PIXELS_OF_A_CLASS = 100_000
"""Of each web at most so many of each class are looked at, for as many as there are."""
LEAST_P = 1e-12


def calibrate(network: LineNetwork, webs: Webs, seed: int = 0, *, mirrored: bool = False) -> tuple[float, list[float]]:
    """Mend a network's probabilities on webs it was not trained on; gives the temperature and each class's offset.

    Logits are divided by one temperature and an offset is added to each class that occurs, by which the webs are most
    likely (Alexandari et al. 2020): a training that shows rare classes often makes them seem frequent. Both go into
    the last layer. `mirrored`: how webs go on beyond their edges, as `probabilities` says.
    """
    log_p, truth, weights = _sampled(network, webs, np.random.default_rng(seed), mirrored)
    occurs = torch.bincount(truth, minlength=network.shape[1]) > 0
    sharpness, offsets = torch.ones((), requires_grad=True), torch.zeros(network.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([sharpness, offsets], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        each = F.cross_entropy(log_p * sharpness + offsets * occurs, truth, reduction="none")
        value = (each * weights).sum() / weights.sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        added = (offsets * occurs).to(network.final.weight.device)
        network.final.weight *= sharpness.item()
        assert network.final.bias is not None
        network.final.bias.mul_(sharpness.item()).add_(added)
    return 1 / sharpness.item(), added.tolist()


def _sampled(
    network: LineNetwork, webs: Webs, random: np.random.Generator, mirrored: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logarithms of probabilities (n,classes), truth (n,) and how many pixels each stands for (n,)."""
    log_p: list[F32] = []
    truths: list[NDArray[np.int64]] = []
    weights: list[F32] = []
    for surface, truth in webs:
        for rows, p in probabilities(network, surface, mirrored=mirrored):
            here = truth[rows].ravel()
            columns = p.reshape(len(p), -1)
            for k in np.unique(here):
                pixels = np.flatnonzero(here == k)
                taken = random.permutation(pixels)[: max(PIXELS_OF_A_CLASS // len(webs), 1)]
                log_p.append(np.log(np.maximum(columns[:, taken].T, LEAST_P)))
                truths.append(np.full(len(taken), k, np.int64))
                weights.append(np.full(len(taken), len(pixels) / len(taken), np.float32))
    together = (np.concatenate(parts) for parts in (log_p, truths, weights))
    return tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in together)  # type: ignore[return-value]
