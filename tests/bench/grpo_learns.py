"""Do GRPO and RLOO learn? A tiny random model, and a reward with a known maximum: the share of lower-case letters.

Run: python tests/bench/grpo_learns.py [SEED ...]
The maximum is 1. All weights are trained, as in ppo_learns.py and for its reason. Each seed prints a line a trainer;
the exit code is 1 where the mean reward of the last steps is under 90 % of the maximum.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

STEPS, LAST, LENGTH = 80, 5, 8
REWARD = """
def letters(prompts, completions, rows):
    return [sum("a" <= letter <= "z" for letter in text) / max(len(text), 1) for text in completions]
"""
#: The price of the divergence that lets a policy come to the maximum: GRPO's is a token's, RLOO's an answer's.
BETA = {"grpo": 0.005, "rloo": 0.015}


def learn(trainer: str, seed: int, steps: int = STEPS) -> list[dict[str, float]]:
    """One run on the tiny model; the metrics of every step."""
    import tunesmith_data
    import tunesmith_full
    import tunesmith_grpo
    import tunesmith_transformers
    from tunesmith import Registry
    from tunesmith.context import SilentReporter
    from tunesmith.plan import make_plan
    from tunesmith.recipe import read
    from tunesmith.run import start
    from tunesmith.testing.tiny import tiny_folder

    registry = Registry()
    for module in (tunesmith_data, tunesmith_full, tunesmith_grpo, tunesmith_transformers):
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
            "use": trainer,
            "reward": "./reward.py:letters",
            "max_steps": steps,
            "batch_size": 16,
            "num_generations": 8,
            "micro_batch_size": 32,
            "num_mini_batches": 4,
            "num_iterations": 4 if trainer == "grpo" else 1,
            "max_new_tokens": LENGTH,
            "learning_rate": 0.001 if trainer == "grpo" else 0.002,
            "lr_scheduler_type": "constant",
            "beta": BETA[trainer],
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
    for trainer in BETA:
        for seed in seeds:
            lines = learn(trainer, seed)
            reward = sum(line["reward"] for line in lines[-LAST:]) / LAST
            kl = max(line["kl"] for line in lines)
            good = len(lines) == STEPS and reward >= 0.9
            all_good = all_good and good
            print(
                f"{trainer}, seed {seed}: mean reward {lines[0]['reward']:.3f} at step 1, {reward:.3f} over the last "
                f"{LAST} of {len(lines)} steps (maximum 1); largest divergence {kl:.1f} nats an answer: "
                f"{'learned' if good else 'NOT LEARNED'}",
                flush=True,
            )
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]] or [1, 2, 3]))
