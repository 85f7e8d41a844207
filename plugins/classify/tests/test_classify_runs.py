"""Whole runs on tiny models: what is learnt, what is kept, and that a stopped run loses nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tunesmith_classify
from tunesmith import Context, DataError, Registry
from tunesmith.artifact import load_artifact
from tunesmith_classify.classification import probabilities
from tunesmith_classify.encode import encode

TRAINER = (
    'trainer={use="classify",learning_rate=0.01,head_learning_rate=0.05,batch_size=8,max_steps=16,save_steps=3}',
    "trainer.group_by_length=false",
    'evaluate=[{use="classification"}]',
)


def test_the_plugin_passes_the_kit(check_plugin: Any) -> None:
    check_plugin(tunesmith_classify)


def source(folder: Path) -> str:
    return f"model.source={json.dumps(str(folder))}"


def digest(run: Path) -> str:
    (weights,) = (run / "artifact").glob("*.safetensors")
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_is_kept_and_resumes_to_the_same_bits(
    house: Any, rows: list[dict[str, Any]], sentence_folder: Path
) -> None:
    house.rows(rows)
    whole = house.run(*TRAINER, source(sentence_folder))
    result = whole.results["main"]
    before, after = (side["measures"] for side in (result.before, result.after))
    assert after["accuracy"]["value"] > before["accuracy"]["value"]
    assert after["accuracy"]["value"] > 0.8
    (matrix,) = result.after["matrices"]
    assert matrix["rows"] == matrix["columns"] == ["card", "cash"]
    assert sum(map(sum, matrix["values"])) == after["accuracy"]["n"] == 12
    assert [row[0] for row in result.after["tables"][0]["rows"]] == ["card", "cash"]
    assert "confusion matrix, after" in (whole.folder / "report.html").read_text()

    part = house.stopped(4, *TRAINER, source(sentence_folder))
    house.resume(part)
    assert digest(part) == digest(whole.folder)
    assert losses(part) == losses(whole.folder)

    # labels and pooling come back with the artifact, whatever rows are at hand
    card = json.loads((whole.folder / "artifact" / "tunesmith.json").read_text())
    assert card["line"]["labels"] == {"names": ["card", "cash"], "several": False}
    assert "2 labels: `card`, `cash`" in (whole.folder / "artifact" / "README.md").read_text()
    adapted = load_artifact(whole.folder / "artifact", house.make_registry(), Context(device="cpu"))
    assert type(adapted.model.get_base_model()).__name__ == "PooledBertForSequenceClassification"
    assert adapted.model.config.id2label == {0: "card", 1: "cash"}


@pytest.mark.parametrize(
    "adapter",
    [
        'adapter={use="full"}',
        'adapter={use="head"}',
        'adapter={use="last-layers",layers=1}',
        'adapter={use="houlsby",bottleneck=4}',
        'adapter={use="pfeiffer",bottleneck=4}',
        'adapter={use="ia3"}',
        'adapter={use="lora",rank=4}',
    ],
)
def test_adapters_of_the_shelf_learn_on_an_encoder(
    house: Any, rows: list[dict[str, Any]], sentence_folder: Path, adapter: str, everything: Registry
) -> None:
    house.rows(rows)
    house.make_registry = lambda: everything
    more = ("trainer.max_steps=40", "trainer.disable_dropout=true", "trainer.head_learning_rate=0.2")
    run = house.run(*TRAINER, source(sentence_folder), adapter, *more)
    assert run.results["main"].after["measures"]["accuracy"]["value"] > 0.8
    found = losses(run.folder)
    assert sum(found[-10:]) < sum(found[:10])
    kept = load_artifact(run.folder / "artifact", everything, Context(device="cpu"))
    assert kept.handle.labels is not None
    assert kept.handle.labels.names == ("card", "cash")


@pytest.fixture(scope="session")
def everything() -> Registry:
    return Registry.discover()


def test_a_decoder_is_read_at_its_last_token(house: Any, rows: list[dict[str, Any]]) -> None:
    house.rows(rows)
    run = house.run(*TRAINER)
    assert run.results["main"].after["measures"]["accuracy"]["value"] > 0.7
    adapted = load_artifact(run.folder / "artifact", house.make_registry(), Context(device="cpu"))
    handle = adapted.handle
    handle.model = adapted.model
    from tunesmith import Records

    records = Records(rows[:5], [str(place) for place in range(5)])
    examples = encode(records, "text-label", handle.tokenizer, handle.labels.index)  # type: ignore[union-attr]
    together = probabilities(handle, examples, "text-label", 5, Context())
    alone = probabilities(handle, examples, "text-label", 1, Context())
    np.testing.assert_allclose(np.stack(together), np.stack(alone), atol=1e-5)


def test_a_model_that_was_saved_is_a_base_with_its_own_head(
    house: Any, rows: list[dict[str, Any]], sentence_folder: Path
) -> None:
    """`full` saves an ordinary folder: labels, pooling and head come back from it."""
    house.rows(rows)
    run = house.run(*TRAINER, source(sentence_folder), 'adapter={use="full"}')
    config = json.loads((run.folder / "artifact" / "config.json").read_text())
    assert config["id2label"] == {"0": "card", "1": "cash"}
    assert config["classifier_pooling"] == "mean"
    again = house.run(*TRAINER, source(run.folder / "artifact"), 'adapter={use="full"}', "trainer.max_steps=1")
    first, second = run.results["main"].after["measures"], again.results["main"].before["measures"]
    assert second["accuracy"]["value"] == first["accuracy"]["value"]
    # other labels: the head is drawn anew, and the run says so
    house.rows([{**row, "label": f"new {row['label']}"} for row in rows])
    other = house.run(*TRAINER, source(run.folder / "artifact"), 'adapter={use="full"}', "trainer.max_steps=1")
    assert "drawn" in (other.folder / "events.jsonl").read_text()


def test_several_labels_a_text(house: Any, rows: list[dict[str, Any]], sentence_folder: Path) -> None:
    several: list[dict[str, Any]] = [{"text": row["text"], "labels": [row["label"]]} for row in rows]
    several += [{"text": f"aazz {number}", "labels": ["cash", "card"]} for number in range(10)]
    several += [{"text": f"0000 {number}", "labels": []} for number in range(10)]
    house.rows(several)
    run = house.run(*TRAINER, source(sentence_folder), "trainer.max_steps=24", "trainer.class_weights=balanced")
    after = run.results["main"].after["measures"]
    assert after["f1_micro"]["value"] > 0.7
    assert {"exact_match", "f1_macro", "calibration_error"} <= set(after)
    card = json.loads((run.folder / "artifact" / "tunesmith.json").read_text())
    assert card["line"]["labels"]["several"] is True


def test_the_weights_of_the_step_balance_are_those_of_balanced_labels(
    house: Any, rows: list[dict[str, Any]], sentence_folder: Path
) -> None:
    house.rows([row for number, row in enumerate(rows) if number % 3 or row["label"] != rows[0]["label"]])
    few = (*TRAINER, source(sentence_folder), "trainer.max_steps=4", "evaluate=[]")
    balanced = house.run(*few, "trainer.class_weights=balanced")
    plain = house.run(*few)
    step = 'data.steps=[{use="balance",method="weights"}]'
    weighed = house.run(*few, step, "trainer.sample_weight=weight")
    assert losses(weighed.folder) == pytest.approx(losses(balanced.folder), rel=1e-5)
    assert losses(house.run(*few, step).folder) == losses(weighed.folder)
    assert losses(weighed.folder) != pytest.approx(losses(plain.folder), rel=1e-3)
    with pytest.raises(DataError, match="'weight' is not a number over 0"):
        house.run(*few, "trainer.sample_weight=weight")


def test_words_are_tagged(house: Any, encoder_folder: Path) -> None:
    names, places = ["anna", "otto", "berta"], ["rome", "oslo", "bonn"]
    rows = [
        {"tokens": [name, "goes", "to", place, f"{n}"], "tags": ["B-PER", "O", "O", "B-LOC", "O"]}
        for name in names
        for place in places
        for n in range(4)
    ]
    house.rows(rows)
    trainer = 'trainer={use="classify-tokens",learning_rate=0.01,batch_size=8,max_steps=20}'
    run = house.run(trainer, TRAINER[2], source(encoder_folder))
    before, after = (side["measures"] for side in (run.results["main"].before, run.results["main"].after))
    assert after["entity_f1"]["value"] > 0.9 > before["entity_f1"]["value"]
    assert after["accuracy"]["value"] > 0.9


def test_a_classifier_stands_on_a_tuned_language_model(house: Any, rows: list[dict[str, Any]]) -> None:
    recipe = house.folder / "recipe.toml"
    top, rest = recipe.read_text().split("[model]")
    single = "[stages.first.model]" + rest.replace("[data]", "[stages.first.data]").replace(
        "[adapter]", "[stages.first.adapter]"
    ).replace("[trainer]", "[stages.first.trainer]").replace("[[evaluate]]", "[[stages.first.evaluate]]")
    (house.folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe.write_text(
        top
        + single
        + """
        [stages.second.model]
        from = "first"
        [stages.second.data]
        use = "jsonl"
        path = "labels.jsonl"
        [stages.second.adapter]
        use = "lora"
        rank = 2
        [stages.second.trainer]
        use = "classify"
        max_steps = 2
        """
    )
    run = house.run("stages.first.trainer.max_steps=2")
    context = Context(device="cpu", folder=house.folder)
    loaded = load_artifact(run.folder / "stages/second/artifact", house.make_registry(), context)
    assert type(loaded.handle.model).__name__ == "LlamaForSequenceClassification"
    assert loaded.handle.model.score.weight.shape == torch.Size([2, 32])
    assert loaded.handle.model.config.label2id == {"card": 0, "cash": 1}


def test_rows_without_labels_are_refused(house: Any) -> None:
    with pytest.raises(DataError, match="cannot use 'prompt-completion' rows"):
        house.run(*TRAINER)
