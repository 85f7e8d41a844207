"""Time and peak memory of a training step at long lengths: shifted sparse attention against full attention.

Run: make bench, or python tests/bench/long_attention.py [ROUNDS [LENGTH ...]]
A small random Llama (2 layers of 256 units, 4 heads of 64, 2 of keys, float32); LoRA, norms and embeddings trained,
groups of a quarter of the length. At each length both kinds of attention take forward and backward passes over two
rows, in turn, each in a process of its own (forked, so that both start from the same). Two cases: rows of equal length,
where full attention needs no mask; and one row a tenth shorter than the other, as in training, where it needs one of
length x length a row. Peak memory is the process's high-water mark over what it held when the model stood, so it is
that of the first pass; seconds are those of the second. Prints medians over the rounds and their ratios.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from pathlib import Path

LENGTHS = (512, 1024, 2048, 4096, 8192)
ROWS = 2


def status(field: str) -> float:
    """A field of /proc/self/status, in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def measure(length: int, sparse: bool, padded: bool) -> dict[str, float]:
    """One model, two passes: peak memory of the first over the start, and seconds of the second."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunesmith import Context, ModelHandle
    from tunesmith_longlora import LongLoraSettings
    from tunesmith_longlora.adapter import apply

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=length,
        use_cache=False,
    )
    model = LlamaForCausalLM(config).requires_grad_(False)
    adapted = apply(ModelHandle(model, None, "bench", "", max_length=length), LongLoraSettings(), Context())
    adapted.carrier.active = sparse
    adapted.model.train()
    ids = torch.randint(0, 256, (ROWS, length))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, length - length // 10 :] = 0
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts here
    before = status("VmRSS")
    peak = seconds = 0.0
    for number in range(2):
        begun = time.perf_counter()
        adapted.model(input_ids=ids, attention_mask=mask).logits.float().logsumexp(-1).mean().backward()
        seconds = time.perf_counter() - begun
        if not number:
            peak = status("VmHWM") - before
        adapted.model.zero_grad()
    return {"seconds": seconds, "peak_mib": peak}


def forked(length: int, sparse: bool, padded: bool) -> dict[str, float]:
    """`measure` in a forked process."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, json.dumps(measure(length, sparse, padded)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    if not text:
        sys.exit(f"the process at length {length} ended without a result")
    return json.loads(text)


def main(rounds: int, lengths: tuple[int, ...]) -> None:
    import peft  # noqa: F401  (imported here, so that no child counts it)
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    import tunesmith_longlora.adapter  # noqa: F401

    print(f"{ROWS} rows, groups of a quarter, {torch.get_num_threads()} threads, median of {rounds}")
    print(f"{'rows':8} {'length':>6}  {'full':>18}  {'shifted sparse':>18}  {'time':>6} {'memory':>6}  (sparse / full)")
    for padded in (False, True):
        for length in lengths:
            runs: dict[bool, list[dict[str, float]]] = {False: [], True: []}
            for _ in range(rounds):
                for sparse, found in runs.items():
                    found.append(forked(length, sparse, padded))
            full, ours = (
                {key: statistics.median(run[key] for run in runs[sparse]) for key in ("seconds", "peak_mib")}
                for sparse in (False, True)
            )
            shown = "  ".join(f"{side['seconds']:6.2f} s {side['peak_mib']:5.0f} MiB" for side in (full, ours))
            ratios = f"{ours['seconds'] / full['seconds']:6.2f} {ours['peak_mib'] / full['peak_mib']:6.2f}"
            print(f"{'padded' if padded else 'equal':8} {length:6}  {shown}  {ratios}", flush=True)


if __name__ == "__main__":
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:  # memory that is freed leaves the process, as on a device
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"})
    numbers = [int(text) for text in sys.argv[1:]]
    main(numbers[0] if numbers else 3, tuple(numbers[1:]) or LENGTHS)
