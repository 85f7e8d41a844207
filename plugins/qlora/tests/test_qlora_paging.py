"""A paged optimizer is paged again after a resume; stood in for here, since paged memory needs a GPU."""

from __future__ import annotations

import json

import torch

from tunesmith_transformers.training import checkpoint


class Paged(torch.optim.AdamW):
    """AdamW whose moments carry the names, and whose buffers the mark, of bitsandbytes' paged optimizers."""

    is_paged = True

    def get_state_buffer(self, parameter, dtype):
        buffer = torch.zeros_like(parameter, dtype=dtype)
        buffer.is_paged = True
        return buffer


def test_a_resumed_optimizer_is_paged_again(tmp_path):
    weight = torch.nn.Parameter(torch.zeros(4))
    first = Paged([weight])
    first.state[weight] = {"step": 3, "state1": torch.arange(4.0), "__quant__": {"state2": torch.ones(4)}}
    tensors, rest = checkpoint.flatten_optimizer(first.state_dict())
    checkpoint.write_tensors(tmp_path / checkpoint.OPTIMIZER, tensors)
    (tmp_path / checkpoint.STATE).write_text(json.dumps({"optimizer": rest}))
    second = Paged([weight])
    checkpoint.load_optimizer(tmp_path, second)
    state = second.state[weight]
    assert state["state1"].is_paged
    assert torch.equal(state["state1"], torch.arange(4.0))
    assert torch.equal(state["__quant__"]["state2"], torch.ones(4))
    assert state["step"] == 3
