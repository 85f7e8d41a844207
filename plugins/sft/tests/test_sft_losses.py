"""What a token costs, against TRL, torch and the formulas; and noise on embeddings."""

from __future__ import annotations

import importlib
import json
import math

import pytest
import torch
from torch.nn import functional

from tunesmith_sft import SftSettings
from tunesmith_sft.objective import loss_of
from tunesmith_sft.trainer import SupervisedPositions
from tunesmith_transformers.tokens.batching import collate
from tunesmith_transformers.tokens.encoding import Encoded, encode
from tunesmith_transformers.training.neftune import noisy_embeddings, row_lengths

ROWS = [
    Encoded("a", (5, 6, 7, 8, 9), (False, False, True, False, True)),
    Encoded("b", (9, 8, 7), (False, True, True)),
]


class Bare(SupervisedPositions):
    """The loss without a trainer around it."""

    def __init__(self, settings):
        self.settings = settings


def ours(model, inputs, **settings):
    return Bare(SftSettings(**settings)).compute_loss(model, inputs)


def theirs(handle, folder, inputs, **options):
    """The loss of TRL's own trainer for one batch."""
    from datasets import Dataset as ArrowDataset
    from trl import SFTConfig, SFTTrainer

    handle.model.lm_head.weight.requires_grad_(True)
    trainer = SFTTrainer(
        model=handle.model,
        args=SFTConfig(str(folder), bf16=False, use_cpu=True, report_to=[], disable_tqdm=True, **options),
        train_dataset=ArrowDataset.from_dict(
            {"input_ids": [list(row.ids) for row in ROWS], "labels": [row.labels for row in ROWS]}
        ),
        processing_class=handle.tokenizer,
    )
    count = torch.tensor(sum(sum(row.supervised[1:]) for row in ROWS))
    return trainer.compute_loss(trainer.model, inputs, num_items_in_batch=count)


@pytest.mark.parametrize(
    ("settings", "options"),
    [({"loss": "dft"}, {"loss_type": "dft"}), ({"label_smoothing": 0.3}, {"label_smoothing_factor": 0.3})],
    ids=str,
)
def test_the_losses_are_those_of_trl_and_transformers(tiny_handle, tmp_path, settings, options):
    inputs = collate(ROWS, 258)
    expected = ours(tiny_handle.model, dict(inputs), **settings).item()
    assert expected == pytest.approx(theirs(tiny_handle, tmp_path, dict(inputs), **options).item(), rel=1e-5)
    assert expected != pytest.approx(ours(tiny_handle.model, dict(inputs)).item(), rel=1e-3)


def test_dynamic_fine_tuning_weighs_by_a_probability_without_gradient():
    logits = torch.randn(4, 7, requires_grad=True)
    targets = torch.tensor([0, 3, 6, 1])
    loss_of(SftSettings(loss="dft"))(logits, targets).sum().backward()
    chances = logits.detach().softmax(-1)
    hot = functional.one_hot(targets, 7)
    expected = chances[torch.arange(4), targets][:, None] * (chances - hot)
    torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize("settings", [{"loss": "dft"}, {"label_smoothing": 0.2}, {}], ids=str)
def test_weights_of_tokens_combine_with_every_loss(tiny_handle, settings):
    inputs = collate(ROWS, 258)
    logits = tiny_handle.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    weights = torch.zeros(inputs["labels"].shape)
    weights[0, 2], weights[0, 4], weights[1, 1], weights[1, 2] = 0.5, 2.0, 1.0, 0.25
    total = torch.zeros(())
    for row, place in ((0, 2), (0, 4), (1, 1), (1, 2)):
        chances = logits[row, place - 1].log_softmax(-1)
        token = inputs["input_ids"][row, place]
        share = settings.get("label_smoothing", 0.0)
        loss = -((1 - share) * chances[token] + share * chances.mean())
        loss = loss * chances[token].exp() if settings.get("loss") == "dft" else loss
        total = total + weights[row, place] * loss
    found = ours(tiny_handle.model, {**inputs, "weights": weights}, **settings)
    assert found.item() == pytest.approx(total.item() / 3.75, rel=1e-5)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "ab", "completion": "c"},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    ],
    ids=lambda row: next(iter(row)),
)
def test_prompts_can_be_supervised_too(tiny_handle, row):
    kind = "messages" if "messages" in row else "prompt-completion"
    answers, whole = (
        encode([("0", row)], kind, tiny_handle.tokenizer, supervise=supervise)[0] for supervise in ("answers", "all")
    )
    assert answers.ids == whole.ids
    assert whole.supervised == (False, *[True] * (len(whole.ids) - 1))
    assert sum(answers.supervised) < sum(whole.supervised)


# --- noise on embeddings ----------------------------------------------------------------------
def test_noise_is_bounded_by_the_row_s_own_length(tiny_handle):
    """alpha / sqrt(L d) for each row, however far it is padded."""
    model = tiny_handle.model.train()
    inputs = collate(ROWS, 258)
    embedding = model.get_input_embeddings()
    plain = embedding(inputs["input_ids"])
    largest = torch.zeros(2)
    for _ in range(200):
        with noisy_embeddings(model, inputs, 5.0):
            noise = embedding(inputs["input_ids"]) - plain
        largest = torch.maximum(largest, noise.abs().amax(dim=(1, 2)))
    expected = torch.tensor([5.0 / math.sqrt(5 * 32), 5.0 / math.sqrt(3 * 32)])
    assert (largest <= expected + 1e-6).all()
    torch.testing.assert_close(largest, expected, rtol=0.02, atol=0)
    torch.testing.assert_close(embedding(inputs["input_ids"]), plain, rtol=0, atol=0)
    with noisy_embeddings(model.eval(), inputs, 5.0):
        torch.testing.assert_close(embedding(inputs["input_ids"]), plain, rtol=0, atol=0)


def test_packed_rows_keep_their_own_length():
    positions = torch.tensor([[0, 1, 2, 0, 1, 0, 0]])
    found = row_lengths({"input_ids": torch.zeros_like(positions), "position_ids": positions})
    assert found.tolist() == [[3, 3, 3, 2, 2, 1, 1]]


@pytest.mark.parametrize("adapter", ["lora", "houlsby", "full", "prompt"])
def test_noise_reaches_every_kind_of_adapter(house, adapter):
    """PEFT's, one that is not PEFT's, the whole model, and one that puts virtual tokens in front."""
    make = house.make_registry

    def more():
        registry = make()
        for name in ("tunesmith_bottleneck", "tunesmith_soft_prompts"):
            registry.add(importlib.import_module(name), distribution=name.replace("_", "-"), version="0.1.0")
        return registry

    house.make_registry = more
    sets = (f'adapter={{use="{adapter}"}}', "trainer.max_steps=2", "run.verdict=false", "evaluate=[]")
    plain, noisy = (house.run(*sets, *more) for more in ((), ("trainer.neftune_noise_alpha=5",)))
    assert plain.results["main"].training["metrics"] != noisy.results["main"].training["metrics"]


def test_a_run_with_noise_resumes_to_the_same_bits(house):
    sets = ("trainer.neftune_noise_alpha=5", "trainer.max_steps=4", "evaluate=[]", "run.verdict=false")
    whole = house.run(*sets)
    stopped = house.stopped(2, *sets)
    resumed = house.resume(stopped)
    one, two = ((run.folder / "artifact" / "adapter_model.safetensors").read_bytes() for run in (whole, resumed))
    assert one == two


# --- by epoch -----------------------------------------------------------------------------------
def test_measurements_and_checkpoints_by_epoch(house):
    """The same steps as the length of an epoch says, and the last one."""
    run = house.run(
        "trainer={use='sft',batch_size=2,max_steps=40,evals_per_epoch=1,saves_per_epoch=1,save_total_limit=9}",
    )
    steps = run.results["main"].training["steps"]
    measured = [json.loads(line)["step"] for line in (run.folder / "evaluations.jsonl").read_text().splitlines()]
    kept = sorted(path.name for path in (run.folder / "checkpoints").iterdir() if path.name.startswith("step-"))
    per_epoch = math.ceil(run.results["main"].ledger["trained"] / 2)
    expected = [step for step in range(1, steps + 1) if step % per_epoch == 0 or step == steps]
    assert measured == expected
    assert kept == [f"step-{step:06d}" for step in expected]
