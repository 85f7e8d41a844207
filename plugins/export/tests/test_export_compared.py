"""Whatever a run was trained on, its merged model is compared with the tuned one before it is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith import Dataset, Labels, RecipeError, Records
from tunesmith.adapted import Adapted
from tunesmith.artifact import load_artifact
from tunesmith_export.merge import FULL, export
from tunesmith_export.settings import MergeSettings

LORA = {"use": "lora", "rank": 4}
ROWS = {
    "text": {"text": "one {n} two"},
    "messages": {"messages": [{"role": "user", "content": "hi {n}"}, {"role": "assistant", "content": "ho {n}"}]},
    "preference": {"prompt": "{n}+1=", "chosen": "1{n}", "rejected": "no {n}"},
    "unpaired-preference": {"prompt": "{n}+1=", "completion": "1{n}", "label": True},
    "prompt": {"prompt": "{n}+1 is"},
    "text-label": {"text": "row {n}", "label": "a"},
    "tokens-tags": {"tokens": ["row", "{n}"], "tags": ["O", "O"]},
}
HEADS = [
    *[("causal-lm", kind) for kind in ROWS],
    ("scalar", "preference"),
    ("sequence-labels", "text-label"),
    ("several", "text-label"),
    ("token-labels", "tokens-tags"),
]


def numbered(value: Any, n: int) -> Any:
    """A copy of a row with its number put in."""
    if isinstance(value, dict):
        return {key: numbered(item, n) for key, item in value.items()}
    if isinstance(value, list):
        return [numbered(item, n) for item in value]
    return value.replace("{n}", str(n)) if isinstance(value, str) else value


def made(bench: Any, head: str, kind: str, *, held_out: bool) -> Path:
    rows = [numbered(ROWS[kind], n) for n in range(6)]
    records = Records(rows, [f"rows:{n}" for n in range(6)])
    data = Dataset(type=kind, train=records, **({"validation": records} if held_out else {}))  # type: ignore[arg-type]
    labels = None if head in ("causal-lm", "scalar") else Labels(("a", "b", "c"), several=head == "several")
    bench.context = bench.context.with_(rows=lambda: data, labels=labels)
    own = "sequence-labels" if head == "several" else head
    return bench.make("run", LORA, head=own)


@pytest.mark.parametrize(("head", "kind"), HEADS)
@pytest.mark.parametrize("held_out", [True, False])
def test_every_kind_of_run_is_compared(bench: Any, head: str, kind: str, held_out: bool) -> None:
    artifact = made(bench, head, kind, held_out=held_out)
    folder = export(artifact, MergeSettings(to=Path("model")), bench.context)
    report = json.loads((folder / "parity.json").read_text())
    assert report["passed"] is True
    assert report["origin"] == ("held-out" if held_out else "training")
    assert report["rows"] >= 6
    found = report["distances"][FULL]
    if head == "scalar":
        assert found["compared"] == 12
        assert found["share"] < 1e-4
    else:
        assert found["agreeing"] == found["compared"] >= (18 if head == "several" else 6)
        assert found["kl"] < 1e-6
    assert any(f"over {report['tokens'] or report['rows']}" in line for line in bench.said)


@pytest.mark.parametrize(("head", "kind"), [("causal-lm", "preference"), *HEADS[-4:]])
def test_a_merge_that_changes_the_model_is_refused(
    bench: Any, monkeypatch: pytest.MonkeyPatch, head: str, kind: str
) -> None:
    artifact = made(bench, head, kind, held_out=True)
    own = load_artifact(artifact, bench.registry, bench.context)
    merge = type(own).merge

    def wrong(self: Adapted) -> Any:
        model = merge(self)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        return model

    monkeypatch.setattr(type(own), "merge", wrong)
    with pytest.raises(RecipeError, match="the merged model is too far from the adapter on the base"):
        export(artifact, MergeSettings(to=Path("model"), max_kl=0.01), bench.context)
    assert not (bench.folder / "model").exists()


def test_scores_are_compared_by_their_size(bench: Any) -> None:
    artifact = made(bench, "scalar", "preference", held_out=True)
    tuned = load_artifact(artifact, bench.registry, bench.context)
    export(artifact, MergeSettings(to=Path("model"), dtype="bfloat16", max_difference=1.0), bench.context)
    from tunesmith_export.rows import compared_rows
    from tunesmith_transformers.loading.heads import scores

    rows = compared_rows(replace(tuned.handle), MergeSettings(), bench.context).rows
    merged = load_artifact(artifact, bench.registry, bench.context).merge().to(torch.bfloat16)

    def of(model: Any) -> torch.Tensor:
        with torch.no_grad():
            ids = [torch.tensor([row.ids]) for row in rows]
            return torch.cat(
                [scores(model.eval(), {"input_ids": i, "attention_mask": torch.ones_like(i)}) for i in ids]
            )

    before, after = of(tuned.model), of(merged)
    found = bench.context.facts["parity"]["distances"][FULL]
    assert found["largest"] == pytest.approx(float((before - after).abs().max()), rel=0.2)
    assert found["share"] == pytest.approx(found["largest"] / float(before.square().mean().sqrt()), rel=1e-3)
