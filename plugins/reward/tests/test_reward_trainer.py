"""Reward modelling on the tiny model: its loss is TRL's, its head is trained and kept, a stopped run loses nothing."""

from __future__ import annotations

import hashlib
import json
import math

import pytest
import torch

import tunesmith_reward
from tunesmith import Context, DataError, Dataset, PluginError, RecipeError, Records
from tunesmith.artifact import load_artifact
from tunesmith_lora import LoraSettings
from tunesmith_lora.adapter import apply
from tunesmith_reward.settings import RewardSettings
from tunesmith_reward.trainer import Collator, RewardTrainer, pair_losses, train
from tunesmith_transformers.loading.heads import scores, with_head
from tunesmith_transformers.tokens.pairs import encode_pairs

ROWS = [
    {"prompt": f"{a}+{b}=", "chosen": str(a + b), "rejected": f"{a + b}!", "margin": a + 1.0}
    for a in range(6)
    for b in range(6)
]
TRAINER = (
    'trainer={use="reward",learning_rate=0.01,batch_size=4,max_steps=6,save_steps=2,eval_steps=2,'
    'metric_for_best_model="pair_loss",load_best_model_at_end=true}',
    'evaluate=[{use="reward-accuracy"}]',
)


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_reward)


def digest(run):
    return hashlib.sha256((run / "artifact" / "adapter_model.safetensors").read_bytes()).hexdigest()


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_is_kept_and_resumes_to_the_same_bits(house):
    house.rows(ROWS)
    whole = house.run(*TRAINER)
    result = whole.results["main"]
    before, after = (side["measures"] for side in (result.before, result.after))
    assert after["pair_accuracy"]["value"] > before["pair_accuracy"]["value"]
    assert after["pair_loss"]["value"] < before["pair_loss"]["value"]
    assert 0 <= after["calibration_error"]["value"] <= 1
    assert lines(whole.folder)[-1]["rewards/accuracies"] >= 0.5
    part = house.stopped(3, *TRAINER)
    resumed = house.resume(part)
    assert resumed.results["main"].facts["kept_step"] == result.facts["kept_step"]
    assert digest(part) == digest(whole.folder)
    assert [line["loss"] for line in lines(part)] == [line["loss"] for line in lines(whole.folder)]

    # the head comes back with the adapter, to the same bits, and whichever seed draws the base's
    batch = {"input_ids": torch.tensor([[5, 6, 257]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    again = [
        scores(load_artifact(run / "artifact", house.make_registry(), Context(device="cpu", seed=seed)).model, batch)
        for run, seed in ((whole.folder, 1), (part, 2))
    ]
    assert torch.equal(*again)


def test_a_reward_model_stands_on_a_merged_stage(house):
    recipe = house.folder / "recipe.toml"
    top, rest = recipe.read_text().split("[model]")
    single = "[stages.first.model]" + rest.replace("[data]", "[stages.first.data]").replace(
        "[adapter]", "[stages.first.adapter]"
    ).replace("[trainer]", "[stages.first.trainer]").replace("[[evaluate]]", "[[stages.first.evaluate]]")
    (house.folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    second = """
    [stages.second.model]
    from = "first"
    [stages.second.data]
    use = "jsonl"
    path = "pairs.jsonl"
    [stages.second.adapter]
    use = "lora"
    rank = 2
    [stages.second.trainer]
    use = "reward"
    max_steps = 2
    """
    recipe.write_text(top + single + second)
    run = house.run("stages.first.trainer.max_steps=2")
    card = json.loads((run.folder / "stages/second/artifact/tunesmith.json").read_text())
    assert card["line"]["head"] == "scalar"
    context = Context(device="cpu", folder=house.folder)
    loaded = load_artifact(run.folder / "stages/second/artifact", house.make_registry(), context)
    assert loaded.handle.head == "scalar"
    assert type(loaded.handle.model).__name__ == "LlamaForSequenceClassification"
    recipe.write_text(top + single + second.replace('[stages.second.adapter]\n    use = "lora"\n    rank = 2', ""))
    with pytest.raises(RecipeError, match="'causal-lm' head, and role 'model' needs a 'scalar' one"):
        house.run()


@pytest.fixture
def reward(tiny_handle):
    return apply(with_head(tiny_handle, "scalar", 1), LoraSettings(rank=4), Context(device="cpu"))


def records(rows=ROWS):
    return Records(rows, [str(number) for number in range(len(rows))])


@pytest.mark.parametrize(("scale", "center"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.01)])
def test_the_loss_equals_trl_s(reward, tmp_path, scale, center):
    from datasets import Dataset as ArrowDataset
    from transformers import TrainingArguments
    from trl import RewardConfig
    from trl import RewardTrainer as TrlTrainer

    pairs = encode_pairs(records(ROWS[:5]), reward.handle.tokenizer)
    settings = RewardSettings(margin_scale=scale, center_rewards_coefficient=center)
    arguments = {"output_dir": str(tmp_path), "use_cpu": True, "report_to": [], "disable_tqdm": True}
    mine = RewardTrainer(model=reward.model, args=TrainingArguments(**arguments), settings=settings)
    columns = {
        "chosen_ids": [list(pair.chosen.ids) for pair in pairs],
        "rejected_ids": [list(pair.rejected.ids) for pair in pairs],
        **({"margin": [pair.margin for pair in pairs]} if scale else {}),
    }
    theirs = TrlTrainer(
        model=reward.model,
        args=RewardConfig(
            **arguments, bf16=False, center_rewards_coefficient=center or None, per_device_train_batch_size=5
        ),
        train_dataset=ArrowDataset.from_dict(columns),
        processing_class=reward.handle.tokenizer,
    )
    batch = next(iter(theirs.get_train_dataloader()))
    reward.model.eval()
    with torch.no_grad():
        own = mine.compute_loss(reward.model, Collator(258, scale > 0)(pairs)).item()
        assert own == pytest.approx(theirs.compute_loss(reward.model, batch).item(), abs=1e-5)


def test_pairs_count_by_their_weight(reward, tmp_path):
    from transformers import TrainingArguments

    rows = [{**row, "weight": weight} for row, weight in zip(ROWS[:3], (0.5, 1, 3.0), strict=True)]
    pairs = encode_pairs(records(rows), reward.handle.tokenizer)
    options = {"output_dir": str(tmp_path), "use_cpu": True, "report_to": []}
    mine = RewardTrainer(model=reward.model, args=TrainingArguments(**options), settings=RewardSettings())
    batch = Collator(258, False)(pairs)
    reward.model.eval()
    with torch.no_grad():
        ahead = []
        for pair in pairs:
            sides = (torch.tensor([side.ids]) for side in (pair.chosen, pair.rejected))
            won, lost = (scores(reward.model, {"input_ids": ids, "attention_mask": ids * 0 + 1}) for ids in sides)
            ahead.append(float(won - lost))
        own = float(mine.compute_loss(reward.model, batch))
        half = float(mine.compute_loss(reward.model, batch, num_items_in_batch=2 * mine.count(batch)))
    losses = [math.log1p(math.exp(-value)) for value in ahead]
    wanted = (0.5 * losses[0] + losses[1] + 3 * losses[2]) / 4.5
    assert own == pytest.approx(wanted, rel=1e-5)
    assert half == pytest.approx(wanted / 2, rel=1e-5)


def test_the_score_is_read_at_the_last_token_even_where_the_end_token_pads(reward):
    """SmolLM2 pads with its end token: Transformers' own reading would stop one token early."""
    reward.model.eval()
    reward.model.config.pad_token_id = 257
    ids = torch.tensor([[5, 6, 257, 257], [7, 8, 9, 257]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    with torch.no_grad():
        both = scores(reward.model, {"input_ids": ids, "attention_mask": mask})
        alone = scores(reward.model, {"input_ids": ids[:1, :3], "attention_mask": mask[:1, :3]})
        hidden = reward.model.get_base_model().model(ids, attention_mask=mask).last_hidden_state
        exact = reward.model.get_base_model().score(hidden)[[0, 1], [2, 3], 0]
        pooled = reward.model(input_ids=ids, attention_mask=mask).logits[:, 0]
    torch.testing.assert_close(both, exact)
    torch.testing.assert_close(both[:1], alone)
    assert not torch.allclose(both, pooled)


def test_the_loss_by_hand():
    chosen, rejected = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    settings = RewardSettings(margin_scale=0.5, center_rewards_coefficient=0.1)
    found = pair_losses(chosen, rejected, torch.tensor([2.0, 0.0]), settings)
    by_hand = [
        -torch.log(torch.sigmoid(torch.tensor(1.0 - 0.5 * 2))) + 0.1,
        -torch.log(torch.sigmoid(torch.tensor(-2.0))) + 0.1 * 4,
    ]
    torch.testing.assert_close(found, torch.stack(by_hand))


def test_margins_that_lack_are_refused_before_training(reward, context):
    rows = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in ROWS]
    context.ledger.read(len(rows))
    data = Dataset(type="preference", train=records(rows))
    with pytest.raises(DataError, match="36 of 36 rows have no margin"):
        train({"model": reward}, data, RewardSettings(margin_scale=1.0), context)


def test_an_adapter_that_leaves_the_head_alone_is_refused(house):
    house.rows(ROWS)
    with pytest.raises(RecipeError, match="leaves the model's new head untrained: score"):
        house.run(*TRAINER, 'adapter={use="regex",pattern="q_proj"}')


def test_rows_of_another_type_are_refused(house):
    with pytest.raises(DataError, match="cannot use 'prompt-completion' rows"):
        house.run(*TRAINER)


def test_a_model_without_a_sequence_classification_class_is_named(house, tmp_path):
    from transformers import CohereConfig, CohereForCausalLM

    from tunesmith.testing import tiny_tokenizer

    folder = tmp_path / "cohere"
    config = CohereConfig(
        vocab_size=259, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, bos_token_id=None, eos_token_id=257, pad_token_id=258,
    )  # fmt: skip
    CohereForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    house.rows(ROWS)
    with pytest.raises(RecipeError, match="no SequenceClassification class for cohere, which a 'scalar' head needs"):
        house.run(*TRAINER, f'model.source="{folder}"')


def test_a_source_that_cannot_change_heads_is_named(tiny_handle):
    from pathlib import Path

    from tunesmith.artifact import Line, _headed

    assert tiny_handle.with_head is None
    with pytest.raises(PluginError, match="has a 'causal-lm' head, and its source cannot make it a 'scalar' one"):
        _headed(tiny_handle, Line("scalar", Path(), parent=Path("sft")), Context())
