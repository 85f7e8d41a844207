"""Supervised tuning from recipe to artifact, on the tiny model: what it learns, keeps and refuses."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch

from tunesmith import (
    Adapted,
    Context,
    DataError,
    Dataset,
    NumericalError,
    RecipeError,
    Records,
)
from tunesmith.artifact import load_artifact
from tunesmith.store import checkpoints, damage
from tunesmith_sft import SftSettings
from tunesmith_sft.trainer import train


def weights(run):
    return hashlib.sha256((run / "artifact" / "adapter_model.safetensors").read_bytes()).hexdigest()


def logged(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_and_keeps_an_adapter(house):
    run = house.run("trainer.max_steps=20", "adapter.dropout=0.0")
    result = run.results["main"]
    before, after = (side["measures"]["perplexity"]["value"] for side in (result.before, result.after))
    assert after < 0.5 * before
    assert json.loads((run.folder / "state.json").read_text())["status"] == "done"
    assert not damage(run.folder / "artifact")
    assert {"adapter_config.json", "adapter_model.safetensors", "tunesmith.json", "README.md"} <= {
        path.name for path in (run.folder / "artifact").iterdir()
    }
    assert [line["step"] for line in logged(run.folder)] == list(range(1, 21))
    assert result.ledger["trained"] + result.ledger["held_out"] + result.ledger["dropped"] == result.ledger["rows_in"]


def test_the_artifact_gives_back_the_tuned_model(house):
    run = house.run()
    context = Context(device="cpu", folder=house.folder)
    adapted = load_artifact(run.folder / "artifact", house.make_registry(), context)
    again = load_artifact(run.folder / "artifact", house.make_registry(), context)
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(adapted.model(ids).logits, again.model(ids).logits, rtol=0, atol=0)
    with adapted.disabled() as base:
        assert not torch.equal(base(ids).logits, again.model(ids).logits)


@pytest.mark.parametrize("step", [1, 2, 5])
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_stopped_run_resumes_to_the_same_bits(house, step, adapter):
    sets = ["adapter.dropout=0.1"] if adapter == "lora" else ['adapter={use="full"}']
    whole = house.run(*sets)
    part = house.stopped(step, *sets)
    assert json.loads((part / "state.json").read_text())["status"] == "stopped"
    assert checkpoints(part / "checkpoints")[-1].name == f"step-{step:06d}"
    house.resume(part)
    name = "adapter_model.safetensors" if adapter == "lora" else "model.safetensors"
    digests = {hashlib.sha256((run / "artifact" / name).read_bytes()).hexdigest() for run in (whole.folder, part)}
    assert len(digests) == 1
    assert [line["step"] for line in logged(part)] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in logged(part)] == [line["loss"] for line in logged(whole.folder)]


def test_a_run_killed_after_its_last_step_trains_no_step_more(house):
    whole = house.run()
    cut = house.run()
    shutil.rmtree(cut.folder / "artifact")
    (cut.folder / "result.json").unlink()
    (cut.folder / "state.json").write_text('{"status": "running"}')
    resumed = house.resume(cut.folder)
    assert weights(cut.folder) == weights(whole.folder)
    assert [line["step"] for line in logged(cut.folder)] == [1, 2, 3, 4, 5, 6]
    result = resumed.results["main"]
    assert result.training["steps"] == 6
    assert result.training["metrics"] == whole.results["main"].training["metrics"]
    assert result.after == whole.results["main"].after


def test_two_epochs_resume_to_the_same_bits(house):
    sets = ["trainer.batch_size=5", "trainer.gradient_accumulation_steps=2", "trainer.max_steps=9"]
    whole = house.run(*sets)
    part = house.stopped(6, *sets)
    house.resume(part)
    assert weights(part) == weights(whole.folder)


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(house):
    whole = house.run()
    part = house.stopped(5)
    newest = checkpoints(part / "checkpoints")[-1] / "optimizer.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    house.resume(part)
    assert weights(part) == weights(whole.folder)
    assert [line["step"] for line in logged(part)] == [1, 2, 3, 4, 5, 6]


def test_the_same_plan_twice_gives_the_same_bits(house):
    assert weights(house.run().folder) == weights(house.run().folder)


def test_checkpoints_hold_no_pickle(house):
    run = house.run()
    for folder in (run.folder / "checkpoints", run.folder / "artifact"):
        for path in folder.rglob("*"):
            assert path.is_dir() or path.suffix in (".json", ".safetensors", ".md"), path


def test_checkpoints_are_rotated_by_step(house):
    run = house.run("trainer.save_total_limit=1")
    assert [path.name for path in checkpoints(run.folder / "checkpoints")] == ["step-000006"]


def test_a_nan_stops_before_the_update(house):
    sets = ["trainer.save_steps=1", "trainer.learning_rate=1e30", "trainer.max_grad_norm=0"]
    with pytest.raises(NumericalError, match="loss at step 2 is nan; stopped before the update") as error:
        house.run(*sets)
    assert error.value.exit_code == 70
    failed = house.newest()
    assert json.loads((failed / "state.json").read_text())["status"] == "failed"
    assert not (failed / "artifact").exists()
    (kept,) = checkpoints(failed / "checkpoints")
    assert kept.name == "step-000001"
    assert not damage(kept)
    assert "last good checkpoint is step-000001" in str(error.value)


def test_batch_times_accumulation_decides_and_not_the_split(house):
    sets = ["adapter.dropout=0.0", "trainer.max_steps=3"]
    losses = []
    for batch, accumulation in ((8, 1), (4, 2), (2, 4)):
        run = house.run(*sets, f"trainer.batch_size={batch}", f"trainer.gradient_accumulation_steps={accumulation}")
        losses.append([line["loss"] for line in logged(run.folder)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0] == pytest.approx(losses[2], rel=1e-4)


def test_max_length_over_the_models_is_refused(house):
    with pytest.raises(RecipeError, match="the model takes 1024 tokens"):
        house.run("trainer.max_length=5000")


def test_too_many_rows_lost_to_length_are_refused(house):
    with pytest.raises(DataError, match="would be lost") as error:
        house.run("trainer.max_length=4")
    assert "the prompt alone fills max_length = 4" in str(error.value)
    assert not (house.newest() / "artifact").exists()


def test_unknown_arguments_of_the_wrapped_trainer_are_named(house):
    with pytest.raises(RecipeError, match="SFTConfig has no argument 'neftune_noise'") as error:
        house.run("trainer.arguments.neftune_noise=5")
    assert "neftune_noise_alpha" in str(error.value)


def test_arguments_reach_the_wrapped_trainer(house):
    plain = house.run("adapter.dropout=0.0")
    slow = house.run("adapter.dropout=0.0", "trainer.arguments.adam_beta1=0.5")
    assert weights(plain.folder) != weights(slow.folder)


def test_activation_checkpointing_changes_no_number(house):
    plain = house.run("adapter.dropout=0.0", "trainer.max_steps=2")
    saving = house.run("adapter.dropout=0.0", "trainer.max_steps=2", "trainer.activation_checkpointing=true")
    a, b = ([line["loss"] for line in logged(run.folder)] for run in (plain, saving))
    assert a == pytest.approx(b, rel=1e-5)


class Counting(Adapted):
    """An adapter handle that has a loss term of its own and notes what the trainer calls."""

    def __init__(self, handle):
        super().__init__(handle)
        self.calls = []
        self.scale = self.model.model.norm.weight
        self.scale.requires_grad_(True)

    def begin(self, total_steps):
        self.calls.append(("begin", total_steps))

    def after_step(self, step, total_steps):
        assert self.scale.grad is not None
        self.calls.append((step, total_steps))

    def extra_loss(self):
        return 3.0 + 0.0 * self.scale.sum()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_adapters_own_loss_and_steps_are_kept(tiny_handle, context, accumulation):
    losses = {}

    class Log:
        def progress(self, step, total, metrics):
            losses[step] = metrics["loss"]

        def say(self, message): ...
        def warn(self, message): ...
        def phase(self, name): ...

    rows = Records([{"prompt": "a", "completion": "bc"}] * 8, [str(i) for i in range(8)])
    data = Dataset(type="prompt-completion", train=rows)
    settings = SftSettings(
        learning_rate=0.0, batch_size=4 // accumulation, gradient_accumulation_steps=accumulation, max_steps=2
    )
    context.ledger.read(8)
    adapted = Counting(tiny_handle)
    train({"model": adapted}, data, settings, context.with_(reporter=Log()))
    assert adapted.calls == [("begin", 2), (1, 2), (2, 2)]
    with torch.no_grad():
        ids = torch.tensor([[*tiny_handle.tokenizer("abc")["input_ids"], 257]])
        logits = tiny_handle.model(ids).logits[0, 0:3]
        plain = torch.nn.functional.cross_entropy(logits, ids[0, 1:]).item()
    assert losses[1] == pytest.approx(plain + 3.0, rel=1e-5)


def test_the_loss_equals_that_of_trl(tiny_handle, tmp_path):
    """One batch through TRL's own trainer, its fused head included."""
    from datasets import Dataset as ArrowDataset
    from trl import SFTConfig, SFTTrainer

    from tunesmith_transformers.tokens.batching import collate
    from tunesmith_transformers.tokens.encoding import Encoded
    from tunesmith_transformers.training.losses import token_losses

    rows = [
        Encoded("a", (5, 6, 7, 8, 9), (False, False, True, False, True)),
        Encoded("b", (9, 8, 7), (False, True, True)),
    ]
    inputs = collate(rows, 258)
    ours = token_losses(tiny_handle.model, inputs)[0].mean()
    tiny_handle.model.lm_head.weight.requires_grad_(True)
    trainer = SFTTrainer(
        model=tiny_handle.model,
        args=SFTConfig(str(tmp_path), bf16=False, use_cpu=True, report_to=[], disable_tqdm=True),
        train_dataset=ArrowDataset.from_dict(
            {"input_ids": [list(r.ids) for r in rows], "labels": [r.labels for r in rows]}
        ),
        processing_class=tiny_handle.tokenizer,
    )
    theirs = trainer.compute_loss(trainer.model, inputs)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
