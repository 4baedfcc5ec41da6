"""Every row of the registry that has a sample, on the device against the CPU: values, dtype, shape, and gradients.

The CPU's own values are tested against NumPy and PyTorch; here its results are the reference, on the same arguments.
"""

import numpy as np
import pytest
from samples import ROWS, calls, run

import ferrox as fx
from ferrox._core.backend import kernels
