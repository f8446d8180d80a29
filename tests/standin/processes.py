"""Installs the stand-ins in a separate process, where no fixture can."""

import sys

from tests.standin import cupy as standin
from tests.standin import nccl
from tinygan.cuda import blas


def stand_in() -> None:
    """From now on CuPy, cuBLAS and NCCL are the stand-ins."""
    module, card, library = standin.make()
    module.cuda.nccl = nccl.make(card)
    sys.modules |= {"cupy": module, "cupy.cuda": module.cuda}
    blas.load = lambda: blas.declared(library)
