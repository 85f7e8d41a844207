"""A plain script that calls trl.SFTTrainer, as its documentation shows it: the other side of sft_speed.py.

Usage: python plain_sft.py ROWS.jsonl MODEL_FOLDER STEPS BATCH [checkpointing]
fp32, LoRA on all linear layers, prompt and completion rows, loss on the completion. TRL switches activation
checkpointing on by default; the word `checkpointing` leaves it so, otherwise it is off as in Tunesmith.
Prints one JSON line: seconds of trainer.train(), tokens trained on, peak memory in MiB.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Count(TrainerCallback):
    """Counts the tokens that are not padding."""

    tokens = 0


def main(rows: str, model: str, steps: int, batch: int, checkpointing: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        args=SFTConfig(
            output_dir="plain-output",
            per_device_train_batch_size=batch,
            max_steps=steps,
            learning_rate=1e-3,
            bf16=False,
            gradient_checkpointing=checkpointing,
            max_length=None,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=42,
        ),
        train_dataset=load_dataset("json", data_files=rows, split="train"),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    count = Count()
    collate = trainer.data_collator

    def counting(examples: list) -> dict:
        made = collate(examples)
        count.tokens += int(made["attention_mask"].sum())
        return made

    trainer.data_collator = counting
    begun = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "tokens": count.tokens, "peak_mib": peak}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), "checkpointing" in sys.argv)
