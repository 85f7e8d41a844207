"""Training over a base held in 4 or 8 bits (QLoRA: Dettmers et al. 2023, arXiv 2305.14314), on bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Ge, Gt, Preset, Quantizer, Settings, hookimpl

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class FourBitSettings(Settings):
    """Weights of linear layers in 4 bits, in blocks of 64 with a scale each; everything else stays as it is."""

    double_quant: bool = False
    """Hold the scales of the blocks in 8 bits too: 4.127 bits a parameter instead of 4.5."""
    compute_dtype: Dtype = "auto"
    """Type in which products are computed; auto is float32 on a CPU, bfloat16 on a GPU that has it, else float16."""
    skip_modules: tuple[str, ...] = ()
    """Linear layers that stay dense, by the end of their names; the output head always does."""


@dataclass(frozen=True, kw_only=True)
class Nf4Settings(FourBitSettings):
    """The 16 levels are quantiles of the normal distribution, which trained weights follow closely."""

    double_quant: bool = True
    """Hold the scales of the blocks in 8 bits too: 4.127 bits a parameter instead of 4.5."""


@dataclass(frozen=True, kw_only=True)
class Int8Settings(Settings):
    """Weights of linear layers as int8 with a scale a row (LLM.int8(): Dettmers et al. 2022, arXiv 2208.07339)."""

    threshold: Annotated[float, Ge(0)] = 6.0
    """Columns of the inputs with a value over this are multiplied in full precision; 0 takes all of them as int8."""
    compute_dtype: Dtype = "auto"
    """Type of everything that is not int8; auto is float32 on a CPU, bfloat16 on a GPU that has it, else float16."""
    skip_modules: tuple[str, ...] = ()
    """Linear layers that stay dense, by the end of their names; the output head always does."""


@dataclass(frozen=True, kw_only=True)
class QloraSettings(Settings):
    """What the preset fills in; every key of the recipe wins over it."""

    rank: Annotated[int, Gt(0)] = 16
    """Rank of the LoRA updates, on all linear layers but the output head."""
    optim: str = "paged_adamw_32bit"
    """Optimizer of the trainer, by Transformers' names."""


@hookimpl
def tunesmith_quantizers() -> Iterator[Quantizer]:
    """`nf4`, `fp4`, `int8`."""
    needs = ("torch", "transformers", "accelerate", "bitsandbytes")
    yield Quantizer(
        name="nf4",
        summary="Linear layers in 4-bit NormalFloat, with double quantization",
        factory="tunesmith_qlora.quantizers:nf4",
        settings=Nf4Settings,
        requires=needs,
        check="tunesmith_qlora.foresee:check",
        estimate="tunesmith_qlora.estimate:four_bit",
        unpack="tunesmith_qlora.unpacking:nf4",
    )
    yield Quantizer(
        name="fp4",
        summary="Linear layers in 4-bit floating point",
        factory="tunesmith_qlora.quantizers:fp4",
        settings=FourBitSettings,
        requires=needs,
        check="tunesmith_qlora.foresee:check",
        estimate="tunesmith_qlora.estimate:four_bit",
        unpack="tunesmith_qlora.unpacking:fp4",
    )
    yield Quantizer(
        name="int8",
        summary="Linear layers in 8-bit integers, outliers in full precision",
        factory="tunesmith_qlora.quantizers:int8",
        settings=Int8Settings,
        requires=needs,
        check="tunesmith_qlora.foresee:check",
        estimate="tunesmith_qlora.estimate:eight_bit",
    )


@hookimpl
def tunesmith_presets() -> Iterator[Preset]:
    """`qlora`."""
    yield Preset(
        name="qlora",
        summary="NF4 with double quantization, LoRA on all linear layers, paged AdamW",
        factory="tunesmith_qlora.preset:qlora",
        settings=QloraSettings,
    )
