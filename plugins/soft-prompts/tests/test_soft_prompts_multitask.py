"""Multitask prompts: a shared prompt times low-rank matrices, and the task column from the data to evaluation."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tunesmith import DataError, Dataset, RecipeError, Records, Stopped
from tunesmith.console.talk import Sampling, Talk
from tunesmith_soft_prompts import MultitaskPromptSettings, check
from tunesmith_soft_prompts.multitask import Tasks, apply

SETTINGS = MultitaskPromptSettings(virtual_tokens=5, tasks=("add", "take"), rank=2)
IDS = torch.tensor([[5, 6, 7], [8, 9, 10]])
ROWS = [
    {"prompt": f"{a}?{b}=", "completion": str(a + b if task == "add" else a - b), "task": task}
    for task in ("add", "take")
    for a in range(6)
    for b in range(1, 7)
]
ADAPTER = 'use = "multitask-prompt"\nvirtual_tokens = 6\ntasks = ["add", "take"]'


def trained(handle, context):
    torch.manual_seed(1)
    adapted = apply(handle, SETTINGS, context)
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.05)
    for _ in range(3):
        labels = torch.stack((IDS[0], IDS[1].flip(0)))
        adapted.model(input_ids=IDS, labels=labels, task_ids=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.model.eval()
    return adapted


def logits(model, tasks, rows=IDS):
    with torch.no_grad():
        return model(rows, task_ids=torch.tensor(tasks)).logits


# --- the method ---------------------------------------------------------------------------------
def test_every_task_starts_from_the_shared_prompt(tiny_handle, context):
    adapted = apply(tiny_handle, SETTINGS, context)
    shared = adapted.encoder.embedding.weight
    for task in range(2):
        torch.testing.assert_close(adapted.encoder(torch.arange(5).unsqueeze(0), torch.tensor([task]))[0], shared)
    expected = 5 * 32 + 2 * 2 * (5 + 32)
    assert sum(p.numel() for p in adapted.trainable().values()) == expected


def test_a_task_s_prompt_is_the_shared_one_times_a_matrix_of_the_rank(tiny_handle, context):
    encoder = trained(tiny_handle, context).encoder
    shared = encoder.embedding.weight
    matrices = [encoder(torch.arange(5).unsqueeze(0), torch.tensor([task]))[0] / shared for task in range(2)]
    assert [int(torch.linalg.matrix_rank(matrix.detach(), atol=1e-4)) for matrix in matrices] == [2, 2]
    assert (matrices[0] - matrices[1]).abs().max() > 1e-3


def test_each_row_of_a_batch_has_its_own_task(tiny_handle, context):
    model = trained(tiny_handle, context).model
    both = logits(model, [0, 1])
    torch.testing.assert_close(both[1:], logits(model, [1], IDS[1:]))
    assert (both[1:] - logits(model, [0], IDS[1:])).abs().max() > 1e-3


def test_peft_reads_the_artifact(tiny_handle, context, tmp_path):
    from peft import PeftModel

    base = copy.deepcopy(tiny_handle.model)
    adapted = trained(tiny_handle, context)
    adapted.save(tmp_path)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    torch.testing.assert_close(logits(loaded, [1, 0]), logits(adapted.model, [1, 0]), rtol=0, atol=0)


def test_disabled_it_is_the_base_model_whatever_the_task(tiny_handle, context):
    base = copy.deepcopy(tiny_handle.model)
    adapted = trained(tiny_handle, context)
    tuned = logits(adapted.model, [1, 0])
    with adapted.disabled() as model:
        torch.testing.assert_close(logits(model, [1, 0]), base(IDS).logits)
    torch.testing.assert_close(logits(adapted.model, [1, 0]), tuned, rtol=0, atol=0)


def test_bad_settings_are_refused(tiny_handle, context):
    with pytest.raises(RecipeError, match="rank = 6 is over the size of the prompt"):
        apply(tiny_handle, replace(SETTINGS, rank=6), context)
    with pytest.raises(RecipeError, match="names add twice"):
        check.multitask_prompt(MultitaskPromptSettings(tasks=("add", "take", "add")), Path())


# --- the tasks of rows --------------------------------------------------------------------------
def dataset(*tasks):
    rows = [{"text": "x", **({"task": task} if task else {})} for task in tasks]
    return Dataset(type="text", train=Records(rows, [f"rows.jsonl:{i}" for i in range(1, len(rows) + 1)]))


@pytest.mark.parametrize(
    ("tasks", "message", "detail"),
    [
        (("add", None), "reads each row's task from 'task', which is not there", "1 rows: rows.jsonl:2"),
        (("add", "take", "Take"), "rows name tasks that the adapter does not have: 'Take'", "rows.jsonl:3"),
        (("add", ["take"]), "tasks that the adapter does not have", "rows.jsonl:2"),
        (("add", "add"), "no row to train on has the task take", "add"),
    ],
)
def test_tasks_that_do_not_fit_the_data_are_refused(tasks, message, detail):
    with pytest.raises(DataError, match=message) as error:
        Tasks(("add", "take"), "task").check(dataset(*tasks))
    assert detail in str(error.value)


def test_tasks_that_fit_the_data_pass():
    tasks = Tasks(("add", "take"), "task")
    tasks.check(dataset("take", "add", "take"))
    assert [tasks.number({"task": task}) for task in ("add", "take")] == [0, 1]


# --- whole runs ---------------------------------------------------------------------------------
def test_the_task_travels_through_training_evaluation_and_chat(recipe, stop_at_three, digests):
    recipe.rows, recipe.adapter, recipe.data = ROWS, ADAPTER, 'keep = ["task"]'
    recipe.evaluate = '[[evaluate]]\nuse = "generate"\nmax_new_tokens = 3\nrows = 4'
    whole = recipe.run("whole").folder
    result = json.loads((whole / "result.json").read_text())
    before, after = (result[when]["measures"]["perplexity"]["value"] for when in ("before", "after"))
    assert after < before
    assert result["after"]["measures"]["exact_match"]["n"] == 4

    with pytest.raises(Stopped):
        recipe.run("cut", stop_at_three)
    recipe.resume(recipe.newest("cut"))
    assert digests(recipe.newest("cut") / "artifact") == digests(whole / "artifact")

    adapted = recipe.adapted(whole)
    handle = replace(adapted.handle, model=adapted.model)
    heard: list[str] = []
    assert Talk(handle, Sampling(3, 0.0, 1), row={"task": "take"}).ask("3?1=", heard.append) == "".join(heard)
    with pytest.raises(DataError, match="reads each row's task from 'task'"):
        Talk(handle, Sampling(3, 0.0, 1)).ask("3?1=", heard.append)


def test_a_column_that_is_not_kept_stops_the_run_before_anything_is_measured(recipe):
    recipe.rows, recipe.adapter = ROWS, ADAPTER
    with pytest.raises(DataError, match="from 'task', which is not there") as error:
        recipe.run("whole")
    assert 'keep = ["task"] in [data]' in str(error.value)
    assert not (recipe.newest("whole") / "evaluation-before.json").exists()
    assert not (recipe.newest("whole") / "checkpoints").exists()
