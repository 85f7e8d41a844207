"""Loss and gradients on one batch equal those of TRL's trainers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tunesmith import Adapted, ModelHandle
from tunesmith.testing.tiny import tiny_model, tiny_tokenizer
from tunesmith_grpo.settings import GrpoSettings, RlooSettings
from tunesmith_grpo.updates import GrpoUpdater, Micro, RlooUpdater

TEMPERATURE, LONGEST, PROMPT = 0.7, 6, 4
LENGTHS = torch.tensor([6, 2, 3, 1, 4, 6])
DRAW = torch.Generator().manual_seed(5)
PROMPTS = torch.randint(5, 250, (6, PROMPT), generator=DRAW)
ANSWERS = torch.randint(5, 250, (6, LONGEST), generator=DRAW)
MASK = torch.arange(LONGEST) < LENGTHS[:, None]
ADVANTAGES = torch.randn(6, generator=DRAW)


def logps_of(model):
    """The tokens' log-probabilities, from the whole of the logits; (6, LONGEST)."""
    ids = torch.cat([PROMPTS, ANSWERS], dim=1)
    with torch.no_grad():
        logits = model(ids).logits[:, PROMPT - 1 : -1] / TEMPERATURE
    return torch.log_softmax(logits, -1).gather(-1, ANSWERS[..., None])[..., 0]


#: Those of a policy and a reference that lie a little away from the tiny model.
OLD, REFERENCE = (
    logps_of(tiny_model()) + 0.3 * torch.randn(6, LONGEST, generator=DRAW),
    logps_of(tiny_model()) + 0.3 * torch.randn(6, LONGEST, generator=DRAW),
)


def micros(sizes, beta):
    found = []
    for places in torch.arange(6).split(sizes):
        longest = int(LENGTHS[places].max())
        mask = MASK[places, :longest]
        ids = torch.cat([PROMPTS[places], ANSWERS[places, :longest]], dim=1)
        whole = torch.cat([torch.ones(len(places), PROMPT, dtype=torch.bool), mask], dim=1)
        labels = torch.where(mask, ANSWERS[places, :longest], -100)
        labels = torch.cat([torch.full((len(places), PROMPT), -100), labels], dim=1)
        found.append(
            Micro(
                {"input_ids": ids, "attention_mask": whole.long(), "labels": labels},
                mask.nonzero()[:, 0],
                OLD[places, :longest][mask],
                REFERENCE[places, :longest][mask] if beta else None,
                ADVANTAGES[places],
                torch.ones(len(places), dtype=torch.bool),
            )
        )
    return found


class Regularized(Adapted):
    """A policy with a loss term of its own, as AdaLoRA has."""

    def extra_loss(self):
        return self.model.model.norm.weight.square().sum()


def mine(kind, settings, sizes, adapted=Adapted):
    """The loss over the batch, split as told, and all gradients."""
    model = tiny_model()
    model.requires_grad_(True)
    policy = adapted(ModelHandle(model=model, tokenizer=tiny_tokenizer(), source="tiny", digest="", head="causal-lm"))
    nothing = SimpleNamespace()
    updater = kind(policy, (nothing, nothing), settings, 1)
    loss = updater.gradients(micros(sizes, getattr(settings, "beta", 0.0)), 1)["loss"]
    return loss, {name: parameter.grad for name, parameter in model.named_parameters()}


def trl(kind, config, folder, **options):
    """TRL's trainer on the tiny model."""
    from datasets import Dataset

    trainer = kind(
        model=tiny_model(),
        reward_funcs=lambda completions, **rest: [0.0] * len(completions),
        args=config(
            output_dir=str(folder),
            per_device_train_batch_size=6,
            num_generations=3,
            use_cpu=True,
            bf16=False,
            report_to=[],
            max_completion_length=LONGEST,
            temperature=TEMPERATURE,
            beta=0.0,  # a reference would be loaded from the hub by the model's name
        ),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 6),
        processing_class=tiny_tokenizer(),
    )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


@pytest.fixture(scope="module")
def trl_grpo(tmp_path_factory):
    from trl import GRPOConfig, GRPOTrainer

    return trl(GRPOTrainer, GRPOConfig, tmp_path_factory.mktemp("grpo"))


@pytest.fixture(scope="module")
def trl_rloo(tmp_path_factory):
    from trl import RLOOConfig, RLOOTrainer

    return trl(RLOOTrainer, RLOOConfig, tmp_path_factory.mktemp("rloo"))


def loss_of(trainer):
    inputs = {
        "prompt_ids": PROMPTS,
        "prompt_mask": torch.ones_like(PROMPTS),
        "completion_ids": ANSWERS,
        "completion_mask": MASK.long(),
        "advantages": ADVANTAGES,
        "old_per_token_logps": OLD,
        "old_logps": (OLD * MASK).sum(1),
        "ref_per_token_logps": REFERENCE,
        "num_items_in_batch": MASK.sum(),
    }
    trainer.model.eval()
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), {name: parameter.grad for name, parameter in trainer.model.named_parameters()}


def same(found, expected):
    assert found[0] == pytest.approx(expected[0], abs=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-5, msg=name)
    assert max(float(gradient.abs().max()) for gradient in expected[1].values()) > 1e-3


@pytest.mark.parametrize("sizes", [6, 2])
@pytest.mark.parametrize(
    ("loss_type", "options"),
    [
        ("grpo", {"epsilon": 0.2}),
        ("grpo", {"epsilon": 0.05, "importance_sampling_level": "sequence"}),
        ("dapo", {"epsilon": 0.2, "epsilon_high": 0.28}),
        ("dr_grpo", {"epsilon": 0.1, "use_bias_correction_kl": False}),
        ("cispo", {"epsilon_high": 1.1}),
    ],
)
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_grpo_equals_trl_s(trl_grpo, loss_type, options, beta, sizes):
    settings = GrpoSettings(loss_type=loss_type, beta=beta, temperature=TEMPERATURE, max_new_tokens=LONGEST, **options)
    trl_grpo.loss_type, trl_grpo.beta = loss_type, beta
    trl_grpo.importance_sampling_level = settings.importance_sampling_level
    trl_grpo.args.use_bias_correction_kl = settings.use_bias_correction_kl
    bound(trl_grpo, settings)
    same(mine(GrpoUpdater, settings, sizes), loss_of(trl_grpo))


@pytest.mark.parametrize("sizes", [6, 2])
@pytest.mark.parametrize("options", [{"epsilon": 0.2}, {"epsilon": 0.9, "epsilon_high": 1.5}])
def test_rloo_equals_trl_s(trl_rloo, options, sizes):
    settings = RlooSettings(temperature=TEMPERATURE, **options)
    bound(trl_rloo, settings)
    same(mine(RlooUpdater, settings, sizes), loss_of(trl_rloo))


def bound(trainer, settings):
    trainer.epsilon_low = settings.epsilon
    trainer.epsilon_high = settings.epsilon if settings.epsilon_high is None else settings.epsilon_high


@pytest.mark.parametrize("sizes", [6, 2])
@pytest.mark.parametrize(("kind", "settings"), [(GrpoUpdater, GrpoSettings()), (RlooUpdater, RlooSettings())])
def test_an_adapter_s_own_loss_counts_once_an_update(kind, settings, sizes):
    _, without = mine(kind, settings, sizes)
    _, found = mine(kind, settings, sizes, Regularized)
    name = "model.norm.weight"
    torch.testing.assert_close(found[name] - without[name], 2 * tiny_model().model.norm.weight.detach())
    torch.testing.assert_close(found["lm_head.weight"], without["lm_head.weight"])
