"""What the quantizers hold, from their settings alone (README: bits a parameter, measured)."""

from __future__ import annotations

from tunesmith.estimate import Packed, Sizes
from tunesmith_qlora import FourBitSettings, Int8Settings, Nf4Settings


def four_bit(settings: FourBitSettings | Nf4Settings, sizes: Sizes) -> Packed:
    """4 bits, and a float32 scale a block of 64; with double quantization an 8-bit one, and one more a block of 256."""
    bits = 4 + 8 / 64 + 32 / (64 * 256) if settings.double_quant else 4 + 32 / 64
    return Packed(bytes_per_parameter=bits / 8, skipped=settings.skip_modules)


def eight_bit(settings: Int8Settings, sizes: Sizes) -> Packed:
    """8 bits, and a float32 scale a row of the weight."""
    rows, values = (sum(part) for part in zip(*((out, out * into) for into, out in sizes.linear.values()), strict=True))
    return Packed(bytes_per_parameter=1 + 4 * rows / values, skipped=settings.skip_modules)
