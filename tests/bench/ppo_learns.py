"""Does PPO learn? A tiny random model, and a reward with a known maximum: the share of lower-case letters.

Run: python tests/bench/ppo_learns.py [SEED ...]
The maximum is 1. A policy that keeps the reference's proportions and draws letters alone diverges by -log p nats a
token, where p is the share that the reference gives them; no policy that reaches the maximum diverges less. All weights
are trained: the tiny model's hidden states are too short for LoRA to make its fixed head sure of anything. Each seed
prints a line; the exit code is 1 where the mean reward of the last steps is under 90 % of the maximum, or the
divergence of any step over the bound.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

STEPS, LAST, MAX_KL, LENGTH = 80, 5, 30.0, 8
REWARD = """
def letters(prompts, completions, rows):
    return [sum("a" <= letter <= "z" for letter in text) / max(len(text), 1) for text in completions]
"""


def learn(seed: int, steps: int = STEPS) -> list[dict[str, float]]:
    """One run on the tiny model; the metrics of every step."""
    import tunesmith_data
    import tunesmith_full
    import tunesmith_ppo
    import tunesmith_transformers
    from tunesmith import Registry
    from tunesmith.context import SilentReporter
    from tunesmith.plan import make_plan
    from tunesmith.recipe import read
    from tunesmith.run import start
    from tunesmith.testing.tiny import tiny_folder

    registry = Registry()
    for module in (tunesmith_data, tunesmith_full, tunesmith_ppo, tunesmith_transformers):
        registry.add(module)
    folder = Path(tempfile.mkdtemp())
    tiny_folder(folder / "model")
    (folder / "reward.py").write_text(REWARD)
    rows = [{"prompt": f"{a}{b}"} for a in "bcdfghjk" for b in "lmnpqrst"]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe: dict[str, dict[str, Any]] = {
        "run": {"folder": str(folder / "runs"), "device": "cpu", "seed": seed},
        "model": {"source": str(folder / "model")},
        "data": {"use": "jsonl", "path": "rows.jsonl"},
        "adapter": {"use": "full", "keep_base": True},
        "trainer": {
            "use": "ppo",
            "reward": "./reward.py:letters",
            "max_steps": steps,
            "batch_size": 64,
            "micro_batch_size": 16,
            "num_mini_batches": 4,
            "num_ppo_epochs": 4,
            "max_new_tokens": LENGTH,
            "learning_rate": 0.001,
            "lr_scheduler_type": "constant",
            "value_learning_rate": 0.02,
            "temperature": 1.0,
            "missing_eos_reward": "own",
            "kl_coef": 0.015,
            "max_kl": MAX_KL,
            "save_steps": steps,
        },
    }
    text = "".join(
        f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in content.items())
        for table, content in recipe.items()
    )
    (folder / "recipe.toml").write_text(text)
    run = start(make_plan(read(folder / "recipe.toml"), registry), registry, SilentReporter())
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def main(seeds: list[int]) -> int:
    all_good = True
    for seed in seeds:
        lines = learn(seed)
        reward = sum(line["reward"] for line in lines[-LAST:]) / LAST
        kl = max(line["kl"] for line in lines)
        first = lines[0]["reward"]
        least = -math.log(max(first, 1e-9)) * LENGTH
        good = len(lines) == STEPS and reward >= 0.9 and kl <= MAX_KL
        all_good = all_good and good
        print(
            f"seed {seed}: mean reward {first:.3f} at step 1, {reward:.3f} over the last {LAST} of {len(lines)} steps "
            f"(maximum 1); largest divergence {kl:.1f} nats an answer (least for the maximum about {least:.1f}, bound "
            f"{MAX_KL:.0f}): {'learned' if good else 'NOT LEARNED'}",
            flush=True,
        )
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]] or [1, 2, 3]))
