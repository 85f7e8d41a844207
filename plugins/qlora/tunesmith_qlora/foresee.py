"""What is known of a quantized load before it begins. No torch here."""

from __future__ import annotations

from pathlib import Path

from tunesmith import RecipeError
from tunesmith_qlora import FourBitSettings, Int8Settings
from tunesmith_transformers.loading.device_facts import cpu_lacks, expected_device


def check(settings: FourBitSettings | Int8Settings, folder: Path, device: str) -> list[str]:
    """Tell in which type products will be computed.

    Raises:
        RecipeError: the device has no units for that type.
    """
    kind = expected_device(device)
    refuse_slow(settings.compute_dtype, kind)
    if settings.compute_dtype == "auto" and kind == "cuda":
        return ["computes in bfloat16 on the GPU, or in float16 where it has no bfloat16"]
    return [f"computes in {'float32' if settings.compute_dtype == 'auto' else settings.compute_dtype} on {kind}"]


def refuse_slow(dtype: str, kind: str) -> None:
    """Refuse a type that the CPU lacks.

    Raises:
        RecipeError: it computes there, but many times slower than float32.
    """
    if dtype != "auto" and kind == "cpu" and cpu_lacks(dtype):
        raise RecipeError(
            f"compute_dtype = {dtype!r}: this CPU has no units for {dtype} and computes many times slower in it",
            fix='Set compute_dtype = "auto" in [quantizer], which takes float32 here.',
        )
