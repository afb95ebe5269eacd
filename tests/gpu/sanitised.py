"""Runs the kernels, compiled with the address and undefined-behaviour sanitizers: they end the process where they
leave their memory."""

import ctypes
import sys
from pathlib import Path

import numpy as np

from edge.segmentation.device_backend import ANYTHING, ANYTHING_ARGUMENTS

from . import fake_gpu
from .test_kernel import Scene

fake_gpu.COMPILE += ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
for dtype in (np.uint8, np.uint16):
    for seed in range(2):
        scene = Scene(dtype, seed)
        scene.solved(fake_gpu.FakeGpu(Path(sys.argv[1])), halves=bool(seed % 2))
decided = np.zeros(1003, np.uint8)
flag = np.zeros(1, np.uint32)
anything = ctypes.CDLL(str(fake_gpu.compiled(ANYTHING.read_text(), Path(sys.argv[1])))).run_anything
for at, value in ((0, 0), (1002, 3)):
    decided[at] = value
    arguments = np.array((decided.ctypes.data, flag.ctypes.data, decided.size), ANYTHING_ARGUMENTS)
    anything(ctypes.c_void_p(arguments.ctypes.data), 3, 1, 128)
    assert flag[0] == (value > 0)
print("in bounds")
