"""The model card that an artifact carries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tunesmith.adapted import Adapted
from tunesmith.plan import StagePlan

if TYPE_CHECKING:
    from tunesmith.stage import StageResult


def model_card(stage: StagePlan, result: StageResult, adapted: Adapted) -> str:
    """A model card in the hub's form: what it is, what it was trained on, what was measured."""
    role = stage.main_role
    adapter = role.adapter.component.name if role.adapter else "continued"
    labels = adapted.handle.labels
    lines = [
        "---",
        "library_name: tunesmith",
        f"base_model: {json.dumps(adapted.handle.source)}",
        f"tags: [{adapter}, {stage.trainer.component.name}]",
        "---",
        f"# {stage.name}",
        "",
        f"`{adapter}` on `{adapted.handle.source}`, trained with `{stage.trainer.component.name}` for "
        f"{result.training.get('steps')} steps on {result.ledger.get('trained')} rows.",
        *(
            ["", f"It tells apart {len(labels)} labels: {', '.join(f'`{name}`' for name in labels.names)}."]
            if labels
            else []
        ),
        "",
        "| measure | before | after | 95 % interval | rows |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, after in result.after.get("measures", {}).items():
        before = result.before.get("measures", {}).get(name, {}).get("value")
        interval = "" if after["low"] is None else f"{after['low']:.4g} to {after['high']:.4g}"
        earlier = "" if before is None else f"{before:.4g}"
        lines.append(f"| {name} | {earlier} | {after['value']:.4g} | {interval} | {after['n']} |")
    return "\n".join(lines) + "\n"
