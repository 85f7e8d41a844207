"""Error of 4-bit types on normal weights, and the bits that each takes.

Run: python tests/bench/quantization_error.py [SIDE]
SIDE x SIDE weights (default 2048) drawn from N(0, 1). The error is the root mean square of what rounding changes,
relative to that of the weights. int4 is the plain symmetric one, written here: round(7 w / max |w|), with a scale a
row or a scale for each 64 weights. Needs bitsandbytes.
"""

from __future__ import annotations

import sys

import bitsandbytes.functional as bnb
import torch


def four_bit(weight: torch.Tensor, kind: str, double: bool) -> torch.Tensor:
    packed, state = bnb.quantize_4bit(weight, quant_type=kind, blocksize=64, compress_statistics=double)
    return bnb.dequantize_4bit(packed, state)


def int4(weight: torch.Tensor, block: int) -> torch.Tensor:
    parts = weight.view(-1, block)
    scale = parts.abs().amax(dim=1, keepdim=True) / 7
    return ((parts / scale).round() * scale).view_as(weight)


def main(side: int) -> None:
    weight = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    sides = {
        "nf4": (four_bit(weight, "nf4", False), 4 + 32 / 64),
        "nf4 + double quantization": (four_bit(weight, "nf4", True), 4 + 8 / 64 + 32 / (64 * 256)),
        "int4, a scale for each 64": (int4(weight, 64), 4 + 32 / 64),
        "fp4": (four_bit(weight, "fp4", False), 4 + 32 / 64),
        "int4, a scale a row": (int4(weight, side), 4 + 32 / side),
    }
    print("| type | relative error | bits a weight |\n| --- | --- | --- |")
    for name, (rounded, bits) in sides.items():
        error = ((rounded - weight).pow(2).mean() / weight.pow(2).mean()).sqrt()
        print(f"| {name} | {error:.4f} | {bits:.3f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2048)
