"""Every argument of Transformers and TRL: changed, it changes what is observed, or the plan refuses it."""

from __future__ import annotations

import sys
from dataclasses import fields
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import integration_utils
from trl import SFTConfig

from tunesmith import Adapted, Dataset, Ledger, MissingError, RecipeError, Records
from tunesmith.testing.tiny import tiny_handle
from tunesmith_sft import SftSettings
from tunesmith_sft.check import check
from tunesmith_sft.trainer import train
from tunesmith_transformers.training import optimizers, refused_arguments, schedules
from tunesmith_transformers.training.refused_arguments import BESIDE, ELSEWHERE, FOLLOWED, OURS
from tunesmith_transformers.training.settings import TrainingSettings

CLASSES = {SFTConfig: SftSettings, TrainingArguments: TrainingSettings}
FIELDS = [(kind, item.name) for kind in CLASSES for item in fields(kind) if item.init]
#: For each argument that is followed: a value, what stands beside it, and what of a run shows the difference.
CHANGED = {
    "lr_scheduler_kwargs": ({"power": 3.0}, {"lr_scheduler_type": "polynomial"}, {}, "rates"),
    "adam_beta1": (0.5, {}, {}, "weights"),
    "adam_beta2": (0.5, {}, {}, "weights"),
    "adam_epsilon": (0.1, {}, {}, "weights"),
    "optim_args": ("momentum=0.9", {"optim": "sgd"}, {}, "weights"),
    "gradient_checkpointing_kwargs": (
        {"use_reentrant": True},
        {"activation_checkpointing": True},
        {},
        "checkpointing",
    ),
    "activation_checkpointing_kwargs": (
        {"use_reentrant": True},
        {"activation_checkpointing": True},
        {},
        "checkpointing",
    ),
    "bf16": (True, {}, {}, "weights"),
    "torch_empty_cache_steps": (1, {}, {}, "emptied"),
    "report_to": ("tensorboard", {}, {}, "told"),
    "run_name": ("mine", {}, {"report_to": "tensorboard"}, "told"),
    "full_determinism": (True, {}, {}, "deterministic"),
    "dataloader_num_workers": (1, {}, {}, "loader"),
    "dataloader_persistent_workers": (True, {}, {"dataloader_num_workers": 1}, "loader"),
    "dataloader_prefetch_factor": (3, {}, {"dataloader_num_workers": 1}, "loader"),
    "dataloader_multiprocessing_context": ("fork", {}, {"dataloader_num_workers": 1}, "loader"),
}
#: What is followed where this machine cannot show it: on a GPU, and with a package that is not here.
ELSEWHERE_ONLY = {"tf32", "dataloader_pin_memory", "optim_target_modules"}


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=lambda value: getattr(value, "__name__", value))
def test_every_argument_is_followed_or_refused(kind, name, tmp_path):
    settings = CLASSES[kind](arguments={name: 1})
    if name in FOLLOWED:
        assert name in CHANGED or name in ELSEWHERE_ONLY
        return
    assert name in OURS or name in ELSEWHERE, "an argument of a new version: is it followed?"
    with pytest.raises(RecipeError, match=f"{name} in .trainer.arguments. has no effect here") as error:
        refused_arguments.check(settings, "cpu")
    assert error.value.setting == ("arguments", name)
    own = OURS.get(name)
    assert error.value.fix
    if own and hasattr(settings, own):
        assert error.value.fix.startswith(f"Set {own} in [trainer]")


def test_the_tables_name_each_argument_once():
    known = {name for _, name in FIELDS}
    assert len(FOLLOWED) + len(OURS) + len(ELSEWHERE) == len({*FOLLOWED, *OURS, *ELSEWHERE})
    assert {*FOLLOWED, *OURS, *ELSEWHERE} <= known
    assert {*CHANGED, *ELSEWHERE_ONLY} == set(FOLLOWED)
    assert set(BESIDE) <= set(FOLLOWED)
    assert {own for own in OURS.values() if not hasattr(SftSettings(), own)} == set()


def test_an_argument_of_a_newer_version_is_refused(monkeypatch):
    monkeypatch.setattr(refused_arguments, "dataclass_fields", lambda reference: ["brand_new"])
    with pytest.raises(RecipeError, match="brand_new in .* has no effect here"):
        refused_arguments.check(SftSettings(arguments={"brand_new": 1}), "cpu")
    refused_arguments.check(SftSettings(arguments={"of_another_library": 1}), "cpu")


class Told(TrainerCallback):
    """Stands in for a service that is told the figures of a step."""

    lines: ClassVar[list] = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.lines.append((args.run_name, sorted(logs)))


@pytest.fixture
def observed(context, monkeypatch):
    """Trains two steps and says everything that an argument may change."""
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Told)
    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard"))

    made = Trainer.get_train_dataloader

    def run(settings, arguments):
        seen = {"emptied": 0, "rates": [], "told": []}
        monkeypatch.setattr(Told, "lines", seen["told"])

        class Log:
            def progress(self, step, total, metrics):
                seen["rates"].append(metrics["learning_rate"])

            def say(self, message): ...
            def warn(self, message): ...
            def phase(self, name): ...

        def emptied():
            seen["emptied"] += 1

        monkeypatch.setattr("transformers.trainer.clear_device_cache", emptied)

        def loader(trainer):
            found = made(trainer)
            names = ("num_workers", "pin_memory", "persistent_workers", "prefetch_factor", "multiprocessing_context")
            seen["loader"] = [str(getattr(found, name)) for name in names]
            return found

        monkeypatch.setattr(Trainer, "get_train_dataloader", loader)
        rows = Records([{"prompt": "a", "completion": "bcd"}] * 8, [str(i) for i in range(8)])
        wanted = SftSettings(learning_rate=0.01, batch_size=2, max_steps=3, **settings, arguments=arguments)
        assert list(check(wanted, context.folder, "cpu", ["perplexity"])) == []
        trained = Adapted(tiny_handle())
        trained.model.requires_grad_(True)
        own = context.with_(reporter=Log(), ledger=Ledger(), stage_folder=context.stage_folder / str(len(arguments)))
        own.ledger.read(8)
        try:
            train({"model": trained}, Dataset(type="prompt-completion", train=rows), wanted, own)
            seen["deterministic"] = torch.are_deterministic_algorithms_enabled()
        finally:
            torch.use_deterministic_algorithms(False)
        model = trained.model
        called = next(
            (found for m in model.modules() if (found := getattr(m, "_gradient_checkpointing_func", None))), None
        )
        seen["checkpointing"] = str(getattr(called, "keywords", None))
        seen["weights"] = torch.cat([p.detach().flatten() for p in trained.trainable().values()])
        return seen

    return run


@pytest.mark.parametrize("name", CHANGED)
def test_an_argument_that_is_followed_changes_what_is_observed(observed, name):
    value, settings, arguments, where = CHANGED[name]
    plain, changed = observed(settings, arguments), observed(settings, {**arguments, name: value})
    if where == "weights":
        assert not torch.equal(plain[where], changed[where])
    else:
        assert plain[where] != changed[where]


@pytest.mark.parametrize(
    ("settings", "arguments", "said", "kind"),
    [
        ({"optim": "nonsense"}, {}, "there is no optimizer 'nonsense'", RecipeError),
        ({"optim": "adam_torch"}, {}, "there is no optimizer 'adam_torch'", RecipeError),
        ({"optim": "lomo"}, {}, "inside the backward pass", RecipeError),
        ({"optim": "schedule_free_adamw"}, {}, "others than those", RecipeError),
        ({"optim": "galore_adamw"}, {}, "needs galore-torch, which is not installed", MissingError),
        ({"optim": "grokadamw"}, {}, "needs grokadamw", MissingError),
        ({"optim": "sgd"}, {"adam_beta1": 0.5}, "sgd does not read it", RecipeError),
        ({}, {"optim_target_modules": "all-linear"}, "projects no gradients", RecipeError),
        ({}, {"optim_args": "momentum=0.9"}, "adamw_torch does not read", RecipeError),
        ({"optim": "sgd"}, {"optim_args": "momentun=0.9"}, "'momentun'", RecipeError),
        ({"optim": "sgd"}, {"optim_args": "momentum"}, "KEY=VALUE", RecipeError),
        ({"lr_scheduler_type": "cosin"}, {}, "there is no schedule 'cosin'", RecipeError),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, {}, "a loss on held-out rows", RecipeError),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, {}, "where to come to rest", RecipeError),
        ({"lr_scheduler_type": "warmup_stable_decay"}, {}, "when to begin to fall", RecipeError),
        ({"lr_scheduler_type": "constant", "warmup_steps": 3}, {}, "has no warm-up", RecipeError),
        ({"lr_scheduler_type": "constant", "min_learning_rate": 1e-6}, {}, "comes to rest nowhere", RecipeError),
        ({"min_learning_rate": 1.0}, {}, "is not below learning_rate", RecipeError),
        ({}, {"lr_scheduler_kwargs": {"powr": 1.0}}, "'powr'", RecipeError),
        ({}, {"lr_scheduler_kwargs": 3}, "must be a table", RecipeError),
        ({}, {"report_to": "wandb"}, "needs wandb, which is not installed", MissingError),
        ({}, {"report_to": "wanb"}, "'wanb'", RecipeError),
        ({}, {"run_name": "mine"}, "no effect without report_to", RecipeError),
        ({}, {"dataloader_prefetch_factor": 2}, "no effect without dataloader_num_workers", RecipeError),
        ({}, {"gradient_checkpointing_kwargs": {}}, "no effect without activation_checkpointing", RecipeError),
        ({}, {"tf32": True}, "the device is 'cpu' here", RecipeError),
        ({}, {"dataloader_pin_memory": True}, "the device is 'cpu' here", RecipeError),
        ({"loss": "dft", "label_smoothing": 0.1}, {}, "the vocabulary", RecipeError),
        ({"save_steps": 3, "saves_per_epoch": 2}, {}, "both say how often", RecipeError),
        ({"eval_steps": 3, "evals_per_epoch": 2}, {}, "both say how often", RecipeError),
    ],
    ids=str,
)
def test_what_cannot_be_followed_is_refused_before_anything_is_loaded(tmp_path, settings, arguments, said, kind):
    with pytest.raises(kind) as error:
        list(check(SftSettings(**settings, arguments=arguments), tmp_path, "cpu", ["perplexity"]))
    assert said in error.value.what
    assert error.value.fix
    assert error.value.setting


def test_every_optimizer_and_schedule_of_transformers_is_known():
    from transformers import SchedulerType
    from transformers.training_args import OptimizerNames

    assert {item.value for item in OptimizerNames} == {*optimizers.OPTIMIZERS, *optimizers.UNUSABLE}
    assert {item.value for item in SchedulerType} == {*schedules.SCHEDULES, *schedules.UNUSABLE}


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_the_options_of_a_schedule_are_those_of_transformers(name):
    import inspect

    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

    known = set(inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[name]).parameters)
    known -= {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
    assert known == set(schedules.SCHEDULES[name])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", lambda part: 0.1 + 0.9 * (1 - part)),
        ("cosine", lambda part: 0.1 + 0.9 * 0.5 * (1 + torch.cos(torch.tensor(part * torch.pi)).item())),
    ],
)
def test_a_schedule_comes_to_rest_at_its_lowest_rate(name, expected):
    from transformers import get_scheduler

    settings = SftSettings(learning_rate=1e-3, lr_scheduler_type=name, min_learning_rate=1e-4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.learning_rate)
    kind, options = schedules.chosen(settings)
    followed = get_scheduler(
        kind, optimizer, num_warmup_steps=0, num_training_steps=10, scheduler_specific_kwargs=options
    )
    for step in range(11):
        assert followed.get_last_lr()[0] == pytest.approx(1e-3 * expected(step / 10))
        optimizer.step()
        followed.step()


def test_the_advice_says_what_the_value_means_here():
    with pytest.raises(RecipeError) as error:
        refused_arguments.check(SftSettings(arguments={"completion_only_loss": False}), "cpu")
    assert error.value.fix == 'Set supervise in [trainer] (false is "all").'
