"""What plugins are handed and must leave as it is, and whose fault it is when a method of an adapter fails."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

from tunesmith.adapted import Adapted
from tunesmith.errors import PluginError
from tunesmith.guard import Used, guarded, wrong_type
from tunesmith.records import Dataset, Records

SAMPLE = 2000  # rows of each part
#: The methods of an adapter that others call, and what those that return something must return.
METHODS: dict[str, tuple[type, ...]] = {
    "trainable": (Mapping,),
    "state": (Mapping,),
    "load_state": (),
    "extra_state": (Mapping,),
    "load_extra_state": (),
    "save": (),
    "load": (),
    "merge": (),
    "check_data": (),
    "parameter_groups": (list, tuple, type(None)),
    "begin": (),
    "after_step": (),
    "extra_loss": (),
}


class Changed(PluginError):
    """A component changed what it was handed, so that nothing measured or made after it can be trusted."""


def named(adapted: Adapted, use: Used) -> Adapted:
    """The adapter, whose methods now say which plugin they are of when they fail, whoever has called them."""
    for name, returns in METHODS.items():
        setattr(adapted, name, _guarded_method(getattr(adapted, name), use, returns))
    return adapted


def _guarded_method(method: Callable[..., Any], use: Used, returns: tuple[type, ...]) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        with guarded(use):
            found = method(*arguments, **options)
        if returns and not isinstance(found, returns):
            raise wrong_type(use, f"{returns[0].__name__} from {method.__name__}", found)
        return found

    return call


@contextmanager
def untouched(use: Used, data: Dataset, model: Any = None) -> Iterator[None]:
    """Check that a component leaves the rows that it is handed as they are, and the weights of a model too.

    Of many rows an even sample is looked at, so that a measurement between two steps costs the same with any data.

    Raises:
        Changed: it did not.
    """
    rows, weights = _rows(data.train, data.validation), _weights(model)
    yield
    if _rows(data.train, data.validation) != rows:
        raise _changed(use, "the rows")
    if _weights(model) != weights:
        raise _changed(use, "the weights of the model")


def _changed(use: Used, what: str) -> Changed:
    return Changed(
        f"{use.component.kind} {use.component.name!r} of {use.distribution} {use.version} changed {what} that it was "
        "handed",
        fix="This is a defect of that plugin; what was measured or trained after it would not be what the recipe says.",
    )


def _rows(*parts: Records) -> bytes:
    digest = hashlib.blake2b()
    for records in parts:
        for name, row in records.spread(SAMPLE):
            digest.update(repr((name, row)).encode("utf-8", errors="backslashreplace"))
    return digest.digest()


def _weights(model: Any) -> bytes:
    """What tells a torch model's weights from changed ones: their sums; empty for any other model."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        return b""
    plain = {torch.float16, torch.bfloat16, torch.float32, torch.float64}  # what is quantized cannot be summed up
    with torch.no_grad():
        sums = [
            float(parameter.sum(dtype=torch.float32 if parameter.device.type == "mps" else torch.float64))
            for parameter in model.parameters()
            if parameter.dtype in plain and type(parameter.data) is torch.Tensor and not parameter.is_meta
        ]
    return repr(sums).encode()
