"""Runs the surface kernel, compiled with the address and undefined-behaviour sanitizers: they end the process where it
leaves its memory."""

import sys
from pathlib import Path

import numpy as np

from . import fake_gpu
from .test_kernel import Scene

fake_gpu.COMPILE += ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
for dtype in (np.uint8, np.uint16):
    for seed in range(2):
        scene = Scene(dtype, seed)
        scene.solved(fake_gpu.FakeGpu(Path(sys.argv[1])), halves=bool(seed % 2))
print("in bounds")
