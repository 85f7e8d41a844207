"""Losses against torch's and Transformers' own, measures against scikit-learn, rates and labels that cannot be used."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_recall_fscore_support, precision_score, recall_score
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from tunesmith import Context, DataError, Dataset, Labels, RecipeError, Records, Registry
from tunesmith.calibration import expected_error, reliability
from tunesmith.context import SilentReporter
from tunesmith.estimate import Lengths, Trained
from tunesmith.labels import check_labels, labels_of
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.stage import load_data
from tunesmith_classify import MEASURES, judged
from tunesmith_classify.encode import Collator, Example, encode
from tunesmith_classify.estimate import training
from tunesmith_classify.judged import one_label, several_labels
from tunesmith_classify.losses import (
    class_weights,
    contrastive_loss,
    divergence,
    label_losses,
    several_losses,
    target_weight,
)
from tunesmith_classify.measures import Hits, averages, measured
from tunesmith_classify.rates import rates, regroup
from tunesmith_classify.settings import ClassificationSettings, ClassifySettings
from tunesmith_classify.tagged import entities
from tunesmith_transformers.estimates.model_sizes import sizes_of
from tunesmith_transformers.loading.heads import row_outputs, with_head
from tunesmith_transformers.loading.pooled import pool

THREE = Labels(("a", "b", "c"))


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


# --- losses ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5])])
def test_the_loss_is_torch_s_weighted_mean(weights: torch.Tensor | None, smoothing: float) -> None:
    logits, targets = drawn(6, 3), torch.tensor([0, 1, 2, 1, -100, 0])
    mine = label_losses(logits, targets, weights, smoothing) / target_weight(targets, weights, several=False)
    kept = targets != -100
    theirs = functional.cross_entropy(logits[kept], targets[kept], weight=weights, label_smoothing=smoothing)
    if weights is None or not smoothing:  # torch weighs the smoothed part otherwise in its mean
        torch.testing.assert_close(mine, theirs)
    assert torch.isfinite(mine)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_row_that_counts_twice_is_there_twice(smoothing: float) -> None:
    logits, targets, counts = drawn(4, 3), torch.tensor([0, 1, 2, 1]), torch.tensor([2.0, 1.0, 1.0, 1.0])
    twice = torch.tensor([0, 0, 1, 2, 3])
    weights = torch.tensor([1.0, 2.0, 0.5])
    mine = label_losses(logits, targets, weights, smoothing, counts) / target_weight(targets, weights, False, counts)
    whole = target_weight(targets[twice], weights, False)
    torch.testing.assert_close(mine, label_losses(logits[twice], targets[twice], weights, smoothing) / whole)
    several = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    mine = several_losses(logits, several, weights, smoothing, counts) / target_weight(several, weights, True, counts)
    torch.testing.assert_close(mine, several_losses(logits[twice], several[twice], weights, smoothing) / 5)
    tags = torch.tensor([[0, -100], [1, 2]])
    assert target_weight(tags, None, False, torch.tensor([3.0, 0.5])) == 3.0 + 2 * 0.5


def test_the_loss_is_transformers_own(tiny_handle: Any) -> None:
    """One label and several, through the model itself."""
    for several in (False, True):
        labels = Labels(THREE.names, several)
        tiny_handle.labels = labels
        handle = with_head(tiny_handle, "sequence-labels", 1)
        examples = [Example(str(n), tuple(range(5, 8 + n)), (n % 3,)) for n in range(4)]
        batch = Collator(258, "text-label", labels)(examples)
        handle.model.eval()
        with torch.no_grad():
            theirs = handle.model(**batch).loss
            logits = row_outputs(handle.model, {k: v for k, v in batch.items() if k != "labels"})
        losses = several_losses if several else label_losses
        mine = losses(logits, batch["labels"], None, 0.0) / target_weight(batch["labels"], None, several)
        torch.testing.assert_close(mine, theirs)


def test_balanced_weights_are_scikit_learn_s() -> None:
    targets = [0, 0, 0, 1, 2, 2]
    examples = [Example(str(n), (1,), (place,)) for n, place in enumerate(targets)]
    found = class_weights("balanced", THREE, examples)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=np.array(targets))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    several = class_weights("balanced", Labels(THREE.names, several=True), examples)
    np.testing.assert_allclose(several, [3 / 3, 5 / 1, 4 / 2])
    assert class_weights("none", THREE, examples) is None
    assert class_weights({"b": 3.0}, THREE, examples).tolist() == [1.0, 3.0, 1.0]  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match="names the label 'bb', which there is not"):
        class_weights({"bb": 1.0}, THREE, examples)


def test_balanced_weights_of_several_labels_are_scikit_learn_s_ratios_and_never_nothing() -> None:
    given = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]])  # `a` on every row, `c` on none
    examples = [Example(str(n), (1,), tuple(int(place) for place in row.nonzero()[0])) for n, row in enumerate(given)]
    found = class_weights("balanced", Labels(THREE.names, several=True), examples)
    assert found is not None
    for place, column in enumerate(given.T):
        sides = np.unique(column)
        theirs = dict(zip(sides, compute_class_weight("balanced", classes=sides, y=column), strict=True))
        assert float(found[place]) == pytest.approx(theirs[1] / theirs[0] if len(sides) == 2 else 1.0)
    logits = torch.zeros(len(given), 3, requires_grad=True)
    several_losses(logits, torch.tensor(given).float(), found, 0.0).backward()
    assert (logits.grad[:, 0] < 0).all(), "a label on every row still trains"


def test_the_divergence_by_hand() -> None:
    one, two = drawn(2, 3).log_softmax(-1), drawn(4, 3)[2:].log_softmax(-1)
    by_hand = ((one.exp() - two.exp()) * (one - two)).sum(-1).mean() / 2
    torch.testing.assert_close(divergence(torch.cat((one, two)), several=False), by_hand)
    assert divergence(torch.cat((one, one)), several=True).item() == pytest.approx(0, abs=1e-6)


def test_the_contrastive_loss_by_hand() -> None:
    texts, targets = drawn(4, 5), torch.tensor([0, 0, 1, 2])
    unit = texts / texts.norm(dim=1, keepdim=True)
    total = 0.0
    for one, other in ((0, 1), (1, 0)):  # the texts whose label another one has
        likeness = {j: math.exp(float(unit[one] @ unit[j]) / 0.5) for j in range(4) if j != one}
        total -= math.log(likeness[other] / sum(likeness.values()))
    assert contrastive_loss(texts, targets, 0.5).item() == pytest.approx(total / 2, rel=1e-5)
    assert contrastive_loss(texts, torch.arange(4), 0.5).item() == 0


def test_texts_are_summed_up_wherever_the_padding_is() -> None:
    hidden = drawn(2, 4, 3)
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])
    torch.testing.assert_close(pool(hidden, mask, "mean")[0], hidden[0, :3].mean(0))
    torch.testing.assert_close(pool(hidden, mask, "cls"), torch.stack((hidden[0, 0], hidden[1, 1])))
    torch.testing.assert_close(pool(hidden, mask, "last"), torch.stack((hidden[0, 2], hidden[1, 3])))


# --- measures -------------------------------------------------------------------------------------
def test_averages_are_scikit_learn_s() -> None:
    generator = np.random.default_rng(0)
    targets, given = generator.integers(0, 5, 200).tolist(), generator.integers(0, 4, 200).tolist()
    hits = Hits.of_places([[t] for t in targets], [[g] for g in given], 6)  # the last label is nowhere
    found = averages(*hits.summed(np.ones((1, 200))))
    for kind in ("macro", "weighted"):
        options = {"average": kind, "zero_division": 0}
        assert found[f"f1_{kind}"][0] == pytest.approx(f1_score(targets, given, **options))
        assert found[f"precision_{kind}"][0] == pytest.approx(precision_score(targets, given, **options))
        assert found[f"recall_{kind}"][0] == pytest.approx(recall_score(targets, given, **options))
    wanted, said = generator.integers(0, 2, (2, 100, 4))
    several = averages(*Hits.of_sets(wanted, said).summed(np.ones((1, 100))))
    for kind in ("macro", "weighted", "micro"):
        assert several[f"f1_{kind}"][0] == pytest.approx(f1_score(wanted, said, average=kind, zero_division=0))
    interval = measured(hits, ("f1_macro",), seed=1)["f1_macro"]
    assert interval.low < interval.value < interval.high  # type: ignore[operator]
    assert interval == measured(hits, ("f1_macro",), seed=1)["f1_macro"]


def test_one_label_each() -> None:
    given = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.5, 0.1, 0.4]])
    targets = [0, 1, 1, 3]  # the last label is one that the model does not know
    rows = [(str(place), f"text {place}") for place in range(4)]
    names = ("a", "b", "c", "unknown")
    found = one_label(given, targets, rows, names, ClassificationSettings(), 0)
    assert found.measures["accuracy"].value == 0.5
    assert found.measures["accuracy"].per_row == (1, 1, 0, 0)
    said = given.argmax(axis=1)
    expected = precision_recall_fscore_support(targets, said, labels=range(4), zero_division=0)
    assert [row[3] for row in found.tables[0].rows] == pytest.approx(expected[2].tolist(), abs=1e-4)
    assert found.tables[1].rows == (("b", "a", 1), ("unknown", "a", 1))
    assert found.matrices[0].values[3] == (1, 0, 0, 0)
    assert [sample.row for sample in found.samples] == ["2", "3"]
    assert found.samples[0].answer == "a (60%)"


def test_several_labels_each() -> None:
    given = np.array([[0.9, 0.8], [0.4, 0.6], [0.1, 0.2]])
    targets = np.array([[1, 1], [1, 1], [0, 0]])
    rows = [(str(place), "text") for place in range(3)]
    found = several_labels(given, targets, rows, ("a", "b"), ClassificationSettings(), 0.5, 0)
    assert found.measures["exact_match"].value == pytest.approx(2 / 3)
    assert found.measures["f1_micro"].value == pytest.approx(f1_score(targets, given >= 0.5, average="micro"))
    assert (found.samples[0].answer, found.samples[0].reference) == ("b", "a, b")


def test_calibration_of_answers_with_more_than_two_choices() -> None:
    bins = reliability([0.25, 0.35, 0.95, 1.0], [0, 1, 1, 1], 4)
    assert [(item.count, item.accuracy) for item in bins] == [(2, 0.5), (2, 1.0)] or len(bins) == 3
    assert expected_error(reliability([1.0] * 4, [1, 1, 0, 0], 10)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-P I-P O B-L", [("P", 0, 2), ("L", 3, 4)]),
        ("B-P B-P", [("P", 0, 1), ("P", 1, 2)]),
        ("O I-P I-L", [("P", 1, 2), ("L", 2, 3)]),
        ("O O", []),
    ],
)
def test_entities_as_conll_has_them(tags: str, expected: list[Any]) -> None:
    assert list(entities(tags.split())) == expected


# --- rates ----------------------------------------------------------------------------------------
def test_lower_blocks_learn_more_slowly_and_the_head_faster(tiny_handle: Any) -> None:
    tiny_handle.labels = THREE
    model = with_head(tiny_handle, "sequence-labels", 1).model
    settings = ClassifySettings(learning_rate=0.1, head_learning_rate=0.5, layer_decay=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    regroup(optimizer, rates(model, settings))
    found = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    by_name = {name: found[id(parameter)] for name, parameter in model.named_parameters()}
    assert len(by_name) == len(found)
    assert by_name["score.weight"] == pytest.approx(0.5)
    assert by_name["model.layers.1.mlp.up_proj.weight"] == pytest.approx(0.1)
    assert by_name["model.layers.0.mlp.up_proj.weight"] == pytest.approx(0.05)
    assert by_name["model.embed_tokens.weight"] == pytest.approx(0.025)


# --- rows -----------------------------------------------------------------------------------------
class Heard(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.said.append(f"warning: {message}")


def data(train: list[Any], held: list[Any] = [], kind: Any = "text-label", column: str = "label") -> Dataset:  # noqa: B006
    def records(labels: list[Any], name: str) -> Records:
        return Records(
            [{"text": "x", column: label} for label in labels], [f"{name}:{n}" for n in range(1, len(labels) + 1)]
        )

    return Dataset(type=kind, train=records(train, "train"), validation=records(held, "held"))


def test_labels_have_names_in_an_order() -> None:
    assert labels_of(data(["b", "a", "b"])) == Labels(("a", "b"))
    assert labels_of(data([10, 9, 2.0])) == Labels(("2", "9", "10"))
    assert labels_of(data([True, False])) == Labels(("false", "true"))
    assert labels_of(data([["b"], [], ["a"]], kind="text-labels", column="labels")) == Labels(("a", "b"), several=True)


def test_what_nothing_can_be_learnt_from_is_refused() -> None:
    with pytest.raises(DataError, match="every training row has the label 'a': there is nothing to tell apart"):
        check_labels(data(["a", "a"]), Context())
    with pytest.raises(DataError, match="no training row has a label"):
        check_labels(data([[], []], kind="text-labels", column="labels"), Context())


def test_labels_that_training_lacks_are_named_counted_and_refused_where_they_are_many() -> None:
    with pytest.raises(DataError, match="1 of 3 held-out rows have a label that no training row has") as error:
        check_labels(data(["a", "b"], ["a", "b", "zebra"]), Context())
    assert "'zebra': 1 rows: held:3" in str(error.value)
    heard = Heard()
    check_labels(data(["a", "b", "b"], ["a"] * 39 + ["zebra"]), Context(reporter=heard))
    assert heard.said[0] == "2 labels, 1 to 2 training rows each; one row only: 'a'"
    assert heard.said[1].startswith("warning: 1 of 40 held-out rows")
    assert "they count as wrong ('zebra': 1 rows: held:40)" in heard.said[1]


def test_rows_are_cut_dropped_or_unusable(tiny_handle: Any) -> None:
    from tunesmith import Ledger

    rows = [{"text": "abcdef", "label": "a"}, {"text": "ab", "label": "q"}, {"text": "abc", "label": "b"}]
    records = Records(rows, ["1", "2", "3"])
    for overlong, kept in (("truncate", ["1", "3"]), ("drop", ["3"])):
        ledger = Ledger()
        found = encode(
            records, "text-label", tiny_handle.tokenizer, THREE.index, max_length=4, overlong=overlong, ledger=ledger
        )
        assert [item.row for item in found] == kept
        assert "the model has no label 'q'" in ledger.reasons("dropped")
        assert len(found[0].ids) <= 4
    assert ledger.reasons("dropped")["longer than max_length = 4"] == 1


def test_a_words_tag_stands_at_its_first_token(tiny_handle: Any) -> None:
    rows = [{"tokens": ["ab", "c", "é"], "tags": ["a", "b", "c"]}]
    (found,) = encode(Records(rows, ["1"]), "tokens-tags", tiny_handle.tokenizer, THREE.index)
    assert len(found.ids) == len("ab c é".encode())
    assert [place for place, tag in enumerate(found.target) if tag != -100] == [0, 2, 4]
    assert [tag for tag in found.target if tag != -100] == [0, 1, 2]
    (cut,) = encode(Records(rows, ["1"]), "tokens-tags", tiny_handle.tokenizer, THREE.index, max_length=4)
    assert [tag for tag in cut.target if tag != -100] == [0, 1]


@pytest.mark.parametrize(("settings", "sequences"), [({}, 4), ({"r_drop": 1.0}, 8), ({"contrastive": 0.5}, 8)])
def test_what_passes_each_text_twice_is_estimated_so(
    tiny_handle: Any, settings: dict[str, float], sequences: int
) -> None:
    sizes = sizes_of(tiny_handle.model.config.to_dict(), "sequence-labels", 4.0)
    assert sizes is not None
    lengths = Lengths(tokens=[10] * 4, supervised=[1] * 4)
    chosen = ClassifySettings(batch_size=4, **settings)
    assert training(chosen, sizes, Trained(modules={}, added=0), lengths).longest.rows == sequences


# --- the example ----------------------------------------------------------------------------------
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "banking77"
REAL = Path(__file__).parents[4] / "shared" / "data" / "banking77"


@pytest.mark.parametrize("recipe", sorted(EXAMPLE.glob("*.toml")), ids=lambda path: path.name)
def test_the_example_can_be_planned(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,category\nlost,card\n", encoding="utf-8")
    sets = [f'data.path="{tmp_path / "rows.csv"}"']
    if recipe.name == "prompted.toml":
        sets.append(f'data.validation_path="{tmp_path / "rows.csv"}"')
    (stage,) = make_plan(read(recipe, sets), Registry.discover()).stages
    assert stage.trainer.component.name == ("sft" if recipe.name == "prompted.toml" else "classify")
    verb = "search" if "search" in read(recipe).tree else "run"
    assert f"tunesmith {verb} docs/examples/banking77/{recipe.name}" in recipe.read_text(encoding="utf-8")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the data set is not at {REAL}")
def test_the_data_of_the_example_are_what_its_page_says() -> None:
    (stage,) = make_plan(read(EXAMPLE / "head.toml", ()), Registry.discover()).stages
    heard = Heard()
    found = load_data(stage, Context(folder=EXAMPLE, reporter=heard))
    assert len(found.train) + len(found.validation) == 10_003
    assert len(labels_of(found) or ()) == 77
    assert any(line.startswith("77 labels, ") for line in heard.said)


def test_every_average_is_among_the_measures_that_the_record_names():
    assert {*judged.ONE, *judged.SEVERAL, "accuracy", "exact_match", "entity_f1", "calibration_error"} <= {*MEASURES}
