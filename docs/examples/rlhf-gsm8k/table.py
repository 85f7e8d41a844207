"""The figures of a finished run of this folder's recipe, as two Markdown tables.

Run: python docs/examples/rlhf-gsm8k/table.py RUN
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Measures = dict[str, dict[str, Any]]


def shown(measures: Measures, name: str, digits: int = 2) -> str:
    """A measure with its 95 % interval."""
    found = measures[name]
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def main(run: Path) -> None:
    """Print what the run's `results.json` holds."""
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    sides = {side: {name: result[side]["measures"] for name, result in results.items()} for side in ("before", "after")}
    before, after = sides["before"], sides["after"]
    pairs = after["reward"]["pair_accuracy"]["n"]
    print(f"| reward model, {pairs} held-out pairs | before | after |\n| --- | --- | --- |")
    for name in ("pair_accuracy", "pair_loss"):
        print(f"| {name} | {shown(before['reward'], name)} | {shown(after['reward'], name)} |")
    print(f"| calibration_error | | {after['reward']['calibration_error']['value']:.2f} |")

    policies = {"sft": before["ppo"], "ppo": after["ppo"], "dpo": after["dpo"]}
    prompts, measured = (policies["sft"][name]["n"] for name in ("reward", "pair_accuracy"))
    print(
        f"\n| policy | mean reward, {prompts} prompts | KL to sft, nats an answer | tokens | ended "
        f"| accuracy of its log-probabilities, {measured} pairs | ... by token |\n{'| --- ' * 7}|"
    )
    for name, measures in policies.items():
        cells = [shown(measures, "reward"), shown(measures, "kl"), f"{measures['length']['value']:.0f}"]
        cells += [f"{measures['ended']['value']:.2f}"]
        cells += [shown(measures, column) for column in ("pair_accuracy", "pair_accuracy_per_token")]
        print(f"| {name} | {' | '.join(cells)} |")
    minutes = {name: sum(result["seconds"].values()) / 60 for name, result in results.items()}
    each = ", ".join(f"{name} {value:.1f}" for name, value in minutes.items())
    print(f"\nminutes: {each}; together {sum(minutes.values()):.1f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/examples/rlhf-gsm8k/table.py RUN")
    main(Path(sys.argv[1]))
