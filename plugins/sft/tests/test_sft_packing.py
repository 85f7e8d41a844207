"""Packing several rows into one sequence, and tokenized rows out of the cache: neither changes what is trained."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from tunesmith import Context, Dataset, Ledger, RecipeError, Records
from tunesmith.adapted import ModuleAdapted
from tunesmith_sft import SftSettings
from tunesmith_sft.packing import PackCollator, check_apart, packs
from tunesmith_sft.trainer import train
from tunesmith_transformers.tokens.encoding import encode
from tunesmith_transformers.training.losses import token_losses

CHANCE = random.Random(0)
ROWS = [{"prompt": "q" * CHANCE.randrange(1, 9), "completion": "abc" * CHANCE.randrange(1, 9)} for _ in range(24)]
DATA = Dataset(type="prompt-completion", train=Records(ROWS, [f"r:{number}" for number in range(len(ROWS))]))


@pytest.mark.parametrize("seed", range(5))
def test_packs_hold_every_row_once_and_waste_little(seed: int) -> None:
    chance = random.Random(seed)
    lengths = [chance.randrange(1, 101) for _ in range(200)]
    chosen = packs(lengths, 100)
    assert sorted(row for pack in chosen for row in pack) == list(range(200))
    assert all(sum(lengths[row] for row in pack) <= 100 for pack in chosen)
    # best-fit decreasing needs no more than 11/9 of the fewest possible, and 1 (Johnson et al. 1974)
    assert len(chosen) <= 11 / 9 * -(-sum(lengths) // 100) + 1


def test_the_loss_of_packed_rows_is_their_loss_alone(tiny_handle: Any) -> None:
    encoded = encode(DATA.train, DATA.type, tiny_handle.tokenizer)
    alone = []
    for item in encoded:
        inputs = {"input_ids": torch.tensor([item.ids]), "labels": torch.tensor([item.labels])}
        alone.append(token_losses(tiny_handle.model, inputs)[0])
    chosen = packs([len(item.ids) for item in encoded], 96)
    rows = [
        {
            "input_ids": [token for row in pack for token in encoded[row].ids],
            "labels": [label for row in pack for label in encoded[row].labels],
            "position_ids": [place for row in pack for place in range(len(encoded[row].ids))],
        }
        for pack in chosen
    ]
    losses, _ = token_losses(tiny_handle.model, PackCollator(tiny_handle.tokenizer.pad_token_id)(rows))
    expected = torch.cat([alone[row] for pack in chosen for row in pack])
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)


class Blurred(torch.nn.Module):
    """A model that knows no positions, so that rows in a sequence see each other."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: Any, position_ids: Any = None, **rest: Any) -> Any:
        return self.inner(input_ids, **rest)


def test_a_model_that_does_not_keep_rows_apart_is_refused(tiny_handle: Any) -> None:
    encoded = encode(DATA.train, DATA.type, tiny_handle.tokenizer)
    check_apart(ModuleAdapted(tiny_handle), encoded)
    with pytest.raises(RecipeError, match="rows of a sequence see each other in this model"):
        check_apart(ModuleAdapted(tiny_handle, Blurred(tiny_handle.model)), encoded)


class Heard:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    warn = say

    def phase(self, name: str) -> None: ...

    def progress(self, step: int, total: int, metrics: Any) -> None: ...


def test_neither_the_cache_nor_packing_changes_the_first_step(tiny_model: Any, context: Context) -> None:
    import copy

    from tunesmith.testing.tiny import tiny_handle

    def trained(folder: str, **settings: Any) -> tuple[dict[str, torch.Tensor], list[str], float]:
        handle = tiny_handle()
        handle.model = copy.deepcopy(tiny_model).requires_grad_(True)
        heard, ledger = Heard(), Ledger()
        ledger.read(len(ROWS))
        own = context.with_(reporter=heard, ledger=ledger, stage_folder=context.stage_folder / folder, facts={})
        chosen = SftSettings(max_length=96, batch_size=24, max_steps=1, learning_rate=1e-3, **settings)
        result = train({"model": ModuleAdapted(handle)}, DATA, chosen, own)
        return handle.model.state_dict(), heard.said, result.metrics["train_loss"]

    def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(one[name], other[name]) for name in one)

    plain, said, loss = trained("a", token_cache="never")
    assert not (context.cache / "tokens").exists()
    kept, said, _ = trained("b", token_cache="always")
    assert not any("in the cache" in line for line in said)
    again, said, _ = trained("c", token_cache="always")
    assert "tokens: those of 24 rows are in the cache, unchanged" in said
    assert equal(plain, kept)
    assert equal(plain, again)
    (rows,) = (context.cache / "tokens").glob("*/rows.arrow")
    content = rows.read_bytes()
    rows.write_bytes(content[:300] + bytes([content[300] ^ 1]) + content[301:])
    mended, said, _ = trained("d", token_cache="always")
    assert not any("in the cache" in line for line in said)  # what is damaged is made anew
    assert equal(plain, mended)
    _, said, packed_loss = trained("e", token_cache="never", packing=True)
    assert any(line.startswith("packing: 24 rows in ") for line in said)
    assert packed_loss == pytest.approx(loss, rel=1e-5)
