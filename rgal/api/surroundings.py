"""Leave a user's process as it was: random streams, flags and warnings that a call changes are put back."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from rgal.core.precision import reproducible

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Compute as the command line does inside the block, and put back whatever is global in this process afterwards.

    Inside, gradients are on, autocast is off, tensors are float32 and a GPU adds in a fixed order, whatever the caller
    has set. What is put back: the random streams of Python, numpy and torch, the number of threads, the flags of
    determinism, default type and device, filters of warnings.

    Args:
        device: where the block computes.
    """
    with ExitStack() as stack:
        stack.enter_context(_random_streams())
        stack.enter_context(_flags())
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        reproducible(device)
        yield


@contextmanager
def _random_streams() -> Iterator[None]:
    """Put back the global random streams of Python, numpy and torch, those of GPUs included."""
    python, numpy, host = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    seed = torch.initial_seed()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(host)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)
        elif torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)  # whoever seeded torch seeded GPUs that were not in use yet


@contextmanager
def _flags() -> Iterator[None]:
    """Put back threads, determinism, the default type, and what `reproducible` sets in the environment."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    fixed = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    workspace = os.environ.get(_CUBLAS)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(fixed, warn_only=warn_only)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if workspace is None:
            os.environ.pop(_CUBLAS, None)
