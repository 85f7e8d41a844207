"""The recipe of the QLoRA paper, as a partial recipe."""

from __future__ import annotations

from typing import Any

from tunesmith_qlora import QloraSettings


def qlora(settings: QloraSettings) -> dict[str, Any]:
    """NF4 with double quantization, LoRA on all linear layers, paged AdamW (arXiv 2305.14314, section 3)."""
    return {
        "quantizer": {"use": "nf4", "double_quant": True},
        "adapter": {"use": "lora", "rank": settings.rank, "target_modules": "all-linear"},
        "trainer": {"use": "sft", "optim": settings.optim},
    }
