"""QLoRA on a GPU: a model of 7 billion parameters with random weights. Peak memory, tokens/s, and a memory spike.

Run: python tests/bench/qlora_7b.py [STEPS]
Sequence 512, batch 1, activation checkpointing, STEPS steps (default 20). The model is built from a configuration and
written to a temporary folder (14 GB). Then the spike: short rows and a long one, with the GPU filled up so far
that the optimizer's state does not fit beside the long row, with an unpaged and a paged AdamW. Without a GPU it says
so and measures nothing. Needs tunesmith-qlora.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from one_run import measured

LENGTH = 512
GIB = 1 << 30


def build(folder: Path) -> Path:
    """Llama's 7B shape with random bfloat16 weights, and a byte tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunesmith.testing.tiny import tiny_tokenizer

    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=257,
        pad_token_id=258,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    del model
    torch.cuda.empty_cache()
    return folder


def rows(path: Path, lengths: list[int]) -> Path:
    """Rows of random letters, one token each."""
    draw = random.Random(0)
    texts = ["".join(draw.choices("abcdefghij ", k=length)) for length in lengths]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def recipe(model: Path, data: Path, steps: int, **trainer: Any) -> dict[str, Any]:
    """The preset, at sequence 512 and batch 1."""
    return {
        "preset": "qlora",
        "run": {"device": "cuda"},
        "model": {"source": str(model)},
        "data": {"use": "jsonl", "path": str(data), "duplicates": "keep"},
        "trainer": {
            "max_length": LENGTH,
            "batch_size": 1,
            "max_steps": steps,
            "activation_checkpointing": True,
            "group_by_length": False,
            **trainer,
        },
    }


def main(steps: int) -> None:
    import torch

    if not torch.cuda.is_available():
        print("not measured: torch sees no GPU here")
        return
    name, total = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = build(folder / "model")
        even = recipe(model, rows(folder / "even.jsonl", [600] * 2 * steps), steps)
        found = measured("run", even)
        peak = found["memory"]["bytes"]
        bits = found["quantization"]["bits_a_parameter"]
        print(f"{name}: 7B, NF4 with double quantization, LoRA rank 16, sequence {LENGTH}, batch 1, {steps} steps")
        print(f"peak memory {peak / GIB:.2f} GiB, {'fits' if peak <= 8 * GIB else 'does not fit'} in 8 GiB")
        print(f"{found['tokens_per_second']:.0f} tokens/s, {bits:.3f} bits a parameter of the quantized layers")
        state = 8 * found["trained"]  # two float32 moments a trained parameter
        uneven = rows(folder / "uneven.jsonl", ([64] * 7 + [600]) * steps)
        unpaged = measured("run", recipe(model, uneven, steps, optim="adamw_torch"))["memory"]["bytes"]
        ballast = total - unpaged - GIB + state // 2  # 1 GiB for the driver and the libraries
        for optim in ("adamw_torch", "paged_adamw_32bit"):
            try:
                result = measured("run", {**recipe(model, uneven, steps, optim=optim), "ballast": ballast})
                said = f"survives, {result['tokens_per_second']:.0f} tokens/s"
            except RuntimeError as error:
                if "out of memory" not in str(error).lower():
                    raise
                said = "runs out of memory"
            print(f"spike, {state / GIB:.2f} GiB of state and {(total - ballast) / GIB:.2f} GiB left: {optim} {said}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
