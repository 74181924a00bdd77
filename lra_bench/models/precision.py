"""Computing in full precision, and uncompiled, where anything else would not do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec

import torch
from torch import Tensor

from lra_bench.schema import Precision

P = ParamSpec("P")


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Return a context in which matrix products have a type."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def in_full_precision(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Let a function of tensors compute in float32 or better, whatever surrounds it.

    Inverses, transforms and long recurrences lose their meaning in bfloat16, and the FFT has no
    version for it. Tensors in half precision are widened; the result stays wide, and the matrix
    product that follows narrows it again where it was asked to.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        with torch.autocast(tensors[0].device.type, enabled=False):
            wide: Any = [_widened(value) for value in args]
            named: Any = {name: _widened(value) for name, value in kwargs.items()}
            return function(*wide, **named)

    return wrapped


def uncompiled(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Leave a function out of compiled graphs.

    For what compiles to the same calls into a library anyway: transforms and complex numbers.
    """
    disabled: Callable[P, Tensor] = torch.compiler.disable(function)
    return disabled


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16):
        return value.float()
    return value
