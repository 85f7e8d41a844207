"""What glibc's handling of freed memory costs a training step on the CPU, in memory and in time.

Run: python tests/bench/freed_memory.py [ROUNDS]
Trains LoRA on a random model of SmolLM2-135M's size for a few steps of 2 x 256 tokens in a process of its own, as
glibc does by default and with MALLOC_MMAP_THRESHOLD_=262144, in turn. Prints medians and their ratios.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

VARIABLE = "MALLOC_MMAP_THRESHOLD_"
HOW = {"default": {}, f"{VARIABLE}=262144": {VARIABLE: "262144"}}
WORK = """
import time, torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from tunesmith.memory import peak_resident, resident
torch.manual_seed(0)
config = LlamaConfig(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                     num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True)
model = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
tokens = torch.randint(0, 49152, (2, 256))
times = []
for step in range(4):
    begun = time.process_time()
    model.get_base_model().model(input_ids=tokens).last_hidden_state.square().mean().backward()
    times.append(time.process_time() - begun)
print(peak_resident(), resident(), sorted(times[1:])[1])
"""


def main(rounds: int) -> None:
    found: dict[str, list[list[float]]] = {how: [] for how in HOW}
    for _ in range(rounds):
        for how, runs in found.items():
            environment = {name: value for name, value in os.environ.items() if name != VARIABLE} | HOW[how]
            command = [sys.executable, "-c", WORK]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            runs.append([float(value) for value in done.stdout.split()])
    medians = {how: [statistics.median(column) for column in zip(*runs, strict=True)] for how, runs in found.items()}
    print("| glibc | peak, MB | after the last step, MB | processor time a step, s |\n| --- | --- | --- | --- |")
    for how, (peak, left, seconds) in medians.items():
        print(f"| {how} | {peak / 1e6:,.0f} | {left / 1e6:,.0f} | {seconds:.2f} |")
    default, changed = medians.values()
    print("| ratio | " + " | ".join(f"{new / old:.2f}" for new, old in zip(changed, default, strict=True)) + " |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
