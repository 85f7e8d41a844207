"""Which arguments of Transformers and TRL are followed in `[trainer.arguments]`, and who does what the others would.

An argument is followed, or refused when the plan is made; nothing is taken that has no effect. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith import MissingError, RecipeError
from tunesmith.static import dataclass_fields
from tunesmith.words import words
from tunesmith_transformers.loading.device_facts import expected_device
from tunesmith_transformers.training.packages import REPORTERS, lacking

#: What is followed, and what each changes.
FOLLOWED = {
    "lr_scheduler_kwargs": "the schedule of the learning rate",
    "adam_beta1": "the optimizer",
    "adam_beta2": "the optimizer",
    "adam_epsilon": "the optimizer",
    "optim_args": "the optimizer",
    "optim_target_modules": "the optimizer",
    "gradient_checkpointing_kwargs": "activation checkpointing",
    "activation_checkpointing_kwargs": "activation checkpointing",
    "tf32": "the precision of products on a GPU",
    "bf16": "the precision of forward and backward passes",
    "torch_empty_cache_steps": "memory that is given back between steps",
    "report_to": "who else is told the figures of a step",
    "run_name": "who else is told the figures of a step",
    "full_determinism": "the algorithms of torch",
    "dataloader_num_workers": "how batches are made",
    "dataloader_pin_memory": "how batches are made",
    "dataloader_persistent_workers": "how batches are made",
    "dataloader_prefetch_factor": "how batches are made",
    "dataloader_multiprocessing_context": "how batches are made",
}
#: What has a setting of its own in [trainer].
OURS = {
    "per_device_train_batch_size": "batch_size",
    "num_train_epochs": "epochs",
    "max_steps": "max_steps",
    "learning_rate": "learning_rate",
    "lr_scheduler_type": "lr_scheduler_type",
    "warmup_steps": "warmup_steps",
    "optim": "optim",
    "weight_decay": "weight_decay",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "max_grad_norm": "max_grad_norm",
    "label_smoothing_factor": "label_smoothing",
    "activation_checkpointing": "activation_checkpointing",
    "gradient_checkpointing": "activation_checkpointing",
    "neftune_noise_alpha": "neftune_noise_alpha",
    "logging_steps": "logging_steps",
    "logging_strategy": "logging_steps",
    "eval_steps": "eval_steps",
    "eval_strategy": "eval_steps",
    "load_best_model_at_end": "load_best_model_at_end",
    "metric_for_best_model": "metric_for_best_model",
    "greater_is_better": "greater_is_better",
    "save_steps": "save_steps",
    "save_strategy": "save_steps",
    "save_total_limit": "save_total_limit",
    "train_sampling_strategy": "group_by_length",
    "length_column_name": "group_by_length",
    # of TRL's SFTConfig
    "max_length": "max_length",
    "truncation_mode": "overlong",
    "packing": "packing",
    "packing_strategy": "packing",
    "padding_free": "packing",
    "completion_only_loss": "supervise",
    "assistant_only_loss": "supervise",
    "loss_type": "loss",
}
MEASURED = "Held-out rows are measured by the recipe's [[evaluate]] tables; eval_steps in [trainer] says how often."
SAVED = "Checkpoints are whole, and made by save_steps and save_total_limit in [trainer]."
PUBLISHED = "Nothing is uploaded: `tunesmith export` writes a folder that you can upload yourself."
PROCESSES = "Training is one process on one device: leave it out."
PREPARED = "Rows are prepared by [data] and its [[data.steps]]: leave it out."
DECIDED = "Which columns a trainer reads is decided by the trainer: leave it out."
TOLD = "The console, metrics.jsonl and report.html tell what happens: leave it out."
TRACKIO = "Name what is told the figures in report_to; it reads its own environment variables."
RESUMED = "`tunesmith resume` goes on to the same bits: leave it out."
ORDERED = "The order of rows depends on [run] seed alone, and every row is trained: leave it out."
PADDED = "Batches are padded to their longest row, so that numbers do not depend on it: leave it out."
COMPILED = "The head is called on chosen positions, a shape that changes with each batch: leave it out."
NOTHING_LIKE_IT = "This trainer has nothing like it: leave it out."
TOKENS = "The tokens are the model's own; [model] chat_template chooses another template."
#: What nobody follows, with what to do instead.
ELSEWHERE = {
    "output_dir": "Set folder and name in [run].",
    "seed": "Set seed in [run].",
    "data_seed": "Set seed in [run].",
    "use_cpu": 'Set device = "cpu" in [run].',
    "average_tokens_across_devices": PROCESSES,
    "fp16": 'Gradients in float16 need a scaler, which is not here: set dtype = "bfloat16" in [model], or bf16 = true '
    "in [trainer.arguments].",
    "bf16_full_eval": MEASURED,
    "fp16_full_eval": MEASURED,
    "torch_compile": COMPILED,
    "torch_compile_backend": COMPILED,
    "torch_compile_mode": COMPILED,
    "use_liger_kernel": "The loss is computed at supervised positions only, without Liger's kernels: leave it out.",
    "liger_kernel_config": "Liger's kernels are not used: leave it out.",
    "use_cache": "No cache is kept while training: leave it out.",
    "auto_find_batch_size": "`tunesmith plan --probe` says what fits: set batch_size in [trainer].",
    "logging_first_step": "The first step is always logged; logging_steps in [trainer] says which others are.",
    "log_on_each_node": PROCESSES,
    "logging_nan_inf_filter": "A loss that is no number stops the run: leave it out.",
    "include_num_input_tokens_seen": "Tokens are counted without it: leave it out.",
    "log_level": TOLD,
    "log_level_replica": TOLD,
    "disable_tqdm": TOLD,
    "project": TRACKIO,
    "trackio_space_id": TRACKIO,
    "trackio_bucket_id": TRACKIO,
    "trackio_static_space_id": TRACKIO,
    "eval_delay": MEASURED,
    "per_device_eval_batch_size": "Set batch_size in the [[evaluate]] tables.",
    "prediction_loss_only": MEASURED,
    "eval_on_start": "A run measures before and after: leave it out.",
    "eval_do_concat_batches": MEASURED,
    "eval_use_gather_object": MEASURED,
    "eval_accumulation_steps": MEASURED,
    "include_for_metrics": MEASURED,
    "batch_eval_metrics": MEASURED,
    "label_names": DECIDED,
    "save_only_model": SAVED,
    "save_on_each_node": SAVED,
    "enable_jit_checkpoint": "SIGINT and SIGTERM already end a step, save it and stop: leave it out.",
    "push_to_hub": PUBLISHED,
    "hub_token": PUBLISHED,
    "hub_private_repo": PUBLISHED,
    "hub_model_id": PUBLISHED,
    "hub_strategy": PUBLISHED,
    "hub_always_push": PUBLISHED,
    "hub_revision": PUBLISHED,
    "ignore_data_skip": RESUMED,
    "restore_callback_states_from_checkpoint": RESUMED,
    "resume_from_checkpoint": RESUMED,
    "accelerator_config": PROCESSES,
    "parallelism_config": PROCESSES,
    "dataloader_drop_last": ORDERED,
    "dataloader_in_order": ORDERED,
    "remove_unused_columns": DECIDED,
    "ddp_find_unused_parameters": PROCESSES,
    "ddp_bucket_cap_mb": PROCESSES,
    "ddp_broadcast_buffers": PROCESSES,
    "ddp_static_graph": PROCESSES,
    "ddp_backend": PROCESSES,
    "ddp_timeout": PROCESSES,
    "fsdp": PROCESSES,
    "fsdp_config": PROCESSES,
    "deepspeed": PROCESSES,
    "local_rank": PROCESSES,
    "debug": "A loss or gradient that is no number stops the run and names the step: leave it out.",
    "skip_memory_metrics": TOLD,
    "do_train": "`tunesmith run` trains: leave it out.",
    "do_eval": MEASURED,
    "do_predict": MEASURED,
    # of TRL's SFTConfig
    "model_init_kwargs": "How the model is loaded is said in [model].",
    "trust_remote_code": "Give `--trust-remote-code OWNER/NAME@COMMIT` on the command line.",
    "router_aux_loss_coef": "Set router_aux_loss_coef in [model].",
    "chat_template_path": "Set chat_template in [model].",
    "dataset_text_field": "Name the column in [data].",
    "dataset_kwargs": PREPARED,
    "dataset_num_proc": PREPARED,
    "eos_token": TOKENS,
    "pad_token": TOKENS,
    "shuffle_dataset": ORDERED,
    "pad_to_multiple_of": PADDED,
    "eval_packing": MEASURED,
    "activation_offloading": "Set activation_checkpointing = true in [trainer] to save memory.",
}
ON_A_GPU = ("tf32", "dataloader_pin_memory")
#: Arguments that only do something beside another one, and what that is.
BESIDE = {
    "dataloader_persistent_workers": "dataloader_num_workers",
    "dataloader_prefetch_factor": "dataloader_num_workers",
    "dataloader_multiprocessing_context": "dataloader_num_workers",
    "run_name": "report_to",
}
#: Where a field of a newer version of the libraries is looked up.
CLASSES = ("transformers.training_args:TrainingArguments", "trl.trainer.sft_config:SFTConfig")


def check(settings: Any, device: str) -> None:
    """Refuse what `[trainer.arguments]` holds and nothing here follows.

    Args:
        settings: a trainer's, with `arguments`.
        device: what torch calls it, or `auto`.

    Raises:
        RecipeError: it names the setting that does what is wanted.
        MissingError: a package that an argument needs is not installed.
    """
    given: Mapping[str, Any] = settings.arguments
    for name in given:
        if name not in FOLLOWED and (mend := _instead(name, settings)):
            raise RecipeError(
                f"{name} in [trainer.arguments] has no effect here", fix=mend, setting=("arguments", name)
            )
        if (other := BESIDE.get(name)) and not given.get(other):
            raise RecipeError(
                f"{name} in [trainer.arguments] has no effect without {other}",
                fix=f"Set {other} beside it, or leave it out.",
                setting=("arguments", name),
            )
    _check_beside_settings(given, settings)
    kind = expected_device(device).partition(":")[0]
    for name in ON_A_GPU:
        if name in given and kind != "cuda":
            raise RecipeError(
                f"{name} in [trainer.arguments] has an effect on a GPU only, and the device is {kind!r} here",
                fix="Leave it out.",
                setting=("arguments", name),
            )
    _check_reporters(given.get("report_to"))


def _instead(name: str, settings: Any) -> str | None:
    """What to do instead of an argument; None for one that belongs to a library unknown here."""
    if own := OURS.get(name):
        setting, note = words().get(name, ("", ""))
        what = f" ({note})" if note and setting == f"trainer.{own}" else ""
        return f"Set {own} in [trainer]{what}." if hasattr(settings, own) else NOTHING_LIKE_IT
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    if any(name in (dataclass_fields(kind) or ()) for kind in CLASSES):
        return "This version of the library has it, and Tunesmith does not know it yet: leave it out."
    return None


def _check_beside_settings(given: Mapping[str, Any], settings: Any) -> None:
    for name in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"):
        if name in given and not settings.activation_checkpointing:
            raise RecipeError(
                f"{name} in [trainer.arguments] has no effect without activation_checkpointing",
                fix="Set activation_checkpointing = true in [trainer], or leave it out.",
                setting=("arguments", name),
            )


def _check_reporters(wanted: Any) -> None:
    names = [wanted] if isinstance(wanted, str) else wanted or []
    for name in names:
        if name not in REPORTERS:
            raise RecipeError(
                f"report_to names {name!r}, which Transformers does not know",
                fix=f"There are: {', '.join(REPORTERS)}.",
                setting=("arguments", "report_to"),
            )
        if absent := lacking(REPORTERS[name]):
            raise MissingError(
                f"report_to = {name!r} needs {absent}, which is not installed here",
                fix=f"Run: pip install {absent}, or leave report_to out.",
                setting=("arguments", "report_to"),
            )
