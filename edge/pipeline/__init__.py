"""The stages in their order and side by side, the ledger of web rows, latency."""

import os

# Read when the first kernel starts its threads. By default these keep their cores for milliseconds after each kernel
# (6 ms of processor time a launch were measured), just when the network wants them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
