"""Every loss equals TRL's on one batch: the same rows, the same weights, TRL's own trainers."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

import tunesmith_preference.objectives as objectives
from tunesmith.adapted import DisabledView
from tunesmith.testing import tiny_model
from tunesmith_preference import losses
from tunesmith_preference.answers import mismatched
from tunesmith_preference.pairwise import Collator, Example, PairTrainer
from tunesmith_preference.settings import (
    CpoSettings,
    DpoSettings,
    IpoSettings,
    KtoSettings,
    OrpoSettings,
    SimpoSettings,
)
from tunesmith_transformers.tokens.encoding import Encoded
from tunesmith_transformers.tokens.pairs import encode_pairs

ROWS = [
    {"prompt": "1+1=", "chosen": "2", "rejected": "three"},
    {"prompt": "capital of France", "chosen": "Paris, of course", "rejected": "Rome"},
    {"prompt": "say a", "chosen": "a", "rejected": "b and c"},
    {"prompt": "up or down?", "chosen": "up up up", "rejected": "down"},
]
NAMES = [
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip


@pytest.fixture(scope="module")
def policy():
    """LoRA that has moved, so that policy and reference differ."""
    from tunesmith import Context
    from tunesmith.testing import tiny_handle
    from tunesmith_lora import LoraSettings
    from tunesmith_lora.adapter import apply

    torch.manual_seed(0)
    adapted = apply(tiny_handle(), LoraSettings(rank=4), Context(device="cpu"))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in adapted.trainable().items():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.01)
    return adapted


@pytest.fixture(scope="module")
def encoded(policy):
    from tunesmith import Records

    return encode_pairs(Records(ROWS, [str(i) for i in range(len(ROWS))]), policy.handle.tokenizer)


def merged(policy: Any) -> Any:
    """The policy as one plain model: TRL would change one with an adapter."""
    return copy.deepcopy(policy.model).merge_and_unload()


def arguments(folder: Any, **more: Any) -> dict[str, Any]:
    common = {"output_dir": str(folder), "bf16": False, "use_cpu": True, "report_to": [], "disable_tqdm": True}
    return {**common, "gradient_checkpointing": False, "per_device_train_batch_size": 4, **more}


def ours(policy: Any, encoded: Any, objective: objectives.Objective, folder: Any, reference: bool = True) -> float:
    """The loss that our trainer computes on the batch."""
    from transformers import TrainingArguments

    from tunesmith_preference.reference import Reference

    trainer = PairTrainer(
        model=policy.model,
        args=TrainingArguments(str(folder), use_cpu=True, report_to=[], disable_tqdm=True, remove_unused_columns=False),
        objective=objective,
        reference=Reference(DisabledView(policy), policy) if reference else None,
    )
    collator = Collator(policy.handle.tokenizer.pad_token_id, objective.prompt_loss)
    policy.model.eval()
    with torch.no_grad():
        return trainer.compute_loss(policy.model, collator([Example(pair) for pair in encoded])).item()


@pytest.fixture(scope="module")
def trl_dpo(policy, tmp_path_factory):
    """The loss that TRL's trainer computes on the batch, by the names of its own settings."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    trainer = DPOTrainer(
        model=merged(policy),
        ref_model=tiny_model(),
        args=DPOConfig(**arguments(tmp_path_factory.mktemp("trl"))),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=policy.handle.tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()

    def loss(names: list[str], beta: float, smoothing: float = 0.0, weights: list[float] | None = None) -> float:
        trainer.loss_types, trainer.loss_weights = names, weights or [1.0] * len(names)
        trainer.beta, trainer.label_smoothing = beta, smoothing
        with torch.no_grad():
            return trainer.compute_loss(trainer.model, batch).item()

    return loss


@pytest.mark.parametrize("name", NAMES)
def test_dpo_s_losses_equal_trl_s(policy, encoded, trl_dpo, tmp_path, name):
    smoothing = 0.1 if name in ("exo_pair", "robust", "aot", "aot_unpaired") else 0.0
    settings = DpoSettings(loss_type=name, beta=0.3, label_smoothing=smoothing)
    mine = ours(policy, encoded, objectives.dpo(settings), tmp_path)
    assert mine == pytest.approx(trl_dpo([name], 0.3, smoothing), abs=1e-5)


def test_several_losses_are_added_by_weight(policy, encoded, trl_dpo, tmp_path):
    names, weights = ("sigmoid", "sft", "bco_pair"), (0.5, 0.25, 2.0)
    mine = ours(policy, encoded, objectives.dpo(DpoSettings(loss_type=names, loss_weights=weights)), tmp_path)
    assert mine == pytest.approx(trl_dpo(list(names), 0.1, weights=list(weights)), abs=1e-5)


def test_ipo_is_dpo_s_loss_of_that_name(policy, encoded, trl_dpo, tmp_path):
    mine = ours(policy, encoded, objectives.ipo(IpoSettings(beta=0.2)), tmp_path)
    assert mine == pytest.approx(trl_dpo(["ipo"], 0.2), abs=1e-5)


def trl_without_reference(policy: Any, folder: Any, kind: str, **options: Any) -> float:
    from datasets import Dataset
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    config, trainer_class = {"cpo": (CPOConfig, CPOTrainer), "orpo": (ORPOConfig, ORPOTrainer)}[kind]
    trainer = trainer_class(
        model=merged(policy),
        args=config(**arguments(folder, max_length=None, remove_unused_columns=False, **options)),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=policy.handle.tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    with torch.no_grad():
        return trainer.get_batch_loss_metrics(trainer.model, batch)[0].item()


@pytest.mark.parametrize(("name", "smoothing"), [("sigmoid", 0.0), ("sigmoid", 0.2), ("hinge", 0.0), ("ipo", 0.0)])
def test_cpo_equals_trl_s(policy, encoded, tmp_path, name, smoothing):
    settings = CpoSettings(beta=0.3, loss_type=name, label_smoothing=smoothing, cpo_alpha=0.7)
    mine = ours(policy, encoded, objectives.cpo(settings), tmp_path, reference=False)
    options = {"beta": 0.3, "loss_type": name, "label_smoothing": smoothing, "cpo_alpha": 0.7}
    assert mine == pytest.approx(trl_without_reference(policy, tmp_path, "cpo", **options), abs=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_simpo_equals_trl_s(policy, encoded, tmp_path, alpha):
    settings = SimpoSettings(beta=2.5, simpo_gamma=0.8, label_smoothing=0.1, cpo_alpha=alpha)
    mine = ours(policy, encoded, objectives.simpo(settings), tmp_path, reference=False)
    options = {"beta": 2.5, "simpo_gamma": 0.8, "label_smoothing": 0.1, "cpo_alpha": alpha, "loss_type": "simpo"}
    assert mine == pytest.approx(trl_without_reference(policy, tmp_path, "cpo", **options), abs=1e-5)


def test_orpo_equals_trl_s(policy, encoded, tmp_path):
    mine = ours(policy, encoded, objectives.orpo(OrpoSettings(beta=0.4, prompt_loss=True)), tmp_path, reference=False)
    assert mine == pytest.approx(trl_without_reference(policy, tmp_path, "orpo", beta=0.4), abs=1e-5)
    answers = ours(policy, encoded, objectives.orpo(OrpoSettings(beta=0.4)), tmp_path, reference=False)
    assert answers != pytest.approx(mine, abs=1e-2)


def test_the_odds_ratio_is_right_at_both_ends():
    """Where p rounds to 1 or to 0 in float32, the log-odds and their gradients stay finite."""
    logps = torch.tensor([-1e-7, -1e-3, -0.5, -0.7, -5.0, -80.0], requires_grad=True)
    odds = losses._log_odds(logps)
    exact = [x - math.log(-math.expm1(x)) for x in logps.detach().double().tolist()]
    torch.testing.assert_close(odds.detach().double(), torch.tensor(exact, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    odds.sum().backward()
    assert torch.isfinite(logps.grad).all()


@pytest.mark.parametrize("name", ["kto", "apo_zero_unpaired"])
def test_kto_equals_trl_s(policy, tmp_path, name):
    """TRL pairs each prompt with the answer of a neighbour too; its batch, mismatched answers included, is ours."""
    from datasets import Dataset
    from transformers import TrainingArguments
    from trl import KTOConfig, KTOTrainer

    from tunesmith_preference.reference import Reference
    from tunesmith_preference.unpaired import UnpairedTrainer

    rows = [
        {"prompt": row["prompt"], "completion": row["chosen" if good else "rejected"], "label": good}
        for row, good in zip(ROWS, (True, False, True, True), strict=True)
    ]
    options = {"beta": 0.3, "loss_type": name, "desirable_weight": 1.5, "undesirable_weight": 0.5}
    theirs = KTOTrainer(
        model=merged(policy),
        ref_model=tiny_model(),
        args=KTOConfig(**arguments(tmp_path, **options)),
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.handle.tokenizer,
    )
    batch = next(iter(theirs.get_train_dataloader()))
    theirs.model.eval()
    policy.model.eval()
    mine = UnpairedTrainer(
        model=policy.model,
        args=TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True),
        settings=KtoSettings(**options),
        reference=Reference(DisabledView(policy), policy),
    )
    inputs = {"wanted": batch["label"].bool()}
    for prefix, own in (("", ""), ("KL_", "drift_")):
        if f"{prefix}input_ids" in batch:
            ids, mask = batch[f"{prefix}input_ids"], batch[f"{prefix}completion_mask"].bool()
            inputs |= {f"{own}input_ids": ids, f"{own}attention_mask": batch[f"{prefix}attention_mask"]}
            inputs[f"{own}labels"] = torch.where(mask, ids, -100)
    with torch.no_grad():
        loss = mine.compute_loss(policy.model, inputs).item()
        assert loss == pytest.approx(theirs.compute_loss(theirs.model, batch).item(), abs=1e-5)


def test_a_prompt_is_paired_with_the_answer_to_another_prompt():
    def row(name: str, prompt: int, answer: int) -> Encoded:
        return Encoded(name, (prompt, prompt, answer, answer), (False, False, True, True))

    rows = [row("a", 1, 10), row("b", 1, 11), row("c", 2, 12), row("d", 1, 13)]
    assert [other.ids for other in mismatched(rows, None)] == [
        (1, 1, 12, 12), (1, 1, 12, 12), (2, 2, 13, 13), (1, 1, 12, 12),
    ]  # fmt: skip
    assert mismatched(rows, 3)[0].ids == (1, 1, 12)
