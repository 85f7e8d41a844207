"""What befalls a process when it comes to a point of its run.

Points are `phase NAME` (it begins), `step N` (it is logged, its saving is next), `saving NAME` (the staging folder of a
checkpoint or artifact is filled, nothing is committed yet), `micro N` (the loss of the N-th micro-batch is there) and
`report` (it is written next).
Actions are lists of a name and its arguments: see `ACTIONS`.
"""

import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

PIECE = 1 << 14  # bytes; the interpreter's own objects are smaller, the tensors of a step are not


def watch(actions: dict[str, list[Any]]) -> None:
    """Let this process meet `actions` at their points; the program itself stays as it is."""
    if not actions:
        return
    from tunesmith import run, store
    from tunesmith.folder import RunFolder
    from tunesmith_transformers.training.durable import Durable

    event, metrics, digests, loss = RunFolder.event, RunFolder.metrics, store.digests_of, Durable.compute_loss
    report = run.write_report
    seen = 0

    def reached(point: str) -> Any:
        action = actions.pop(point, None)
        return ACTIONS[action[0]](*action[1:]) if action else None

    def noted(self: Any, name: str, **more: Any) -> None:
        event(self, name, **more)
        if name == "phase":
            reached(f"phase {more['phase']}")

    def logged(self: Any, stage: str, step: int, figures: Any) -> None:
        metrics(self, stage, step, figures)
        reached(f"step {step}")

    def digested(folder: Any) -> Any:
        reached(f"saving {folder.name.removeprefix(store.STAGING).rpartition('-')[0]}")
        return digests(folder)

    def computed(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        found = loss(self, model, *args, **kwargs)
        seen += model.training
        change = reached(f"micro {seen}") if model.training else None
        return change(found) if change else found

    def reported(*args: Any) -> Any:
        reached("report")
        return report(*args)

    run.write_report = reported
    RunFolder.event, RunFolder.metrics, store.digests_of = noted, logged, digested  # type: ignore[method-assign]
    Durable.compute_loss = computed  # type: ignore[method-assign]


# --- what happens --------------------------------------------------------------------------------
def send(*numbers: int) -> None:
    """Signals to this process."""
    for number in numbers:
        os.kill(os.getpid(), number)


def serve(orders: str, answers: str) -> None:
    """Stay here, and let one child after another go on from here.

    For every line in `orders` a child is made, which stops itself (SIGSTOP) until somebody has looked at it; `answers`
    tells its pid, and then its exit code. At the end of `orders` this process ends.
    """
    with open(orders) as lines, open(answers, "w") as out:
        for _ in lines:
            pid = os.fork()
            if pid == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
                return
            os.waitpid(pid, os.WUNTRACED)
            print(pid, file=out, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=out, flush=True)
    os._exit(0)


def fill(path: str) -> None:
    """Fill the disk with one file, to its last byte."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue


def limit(room: int) -> None:
    """Let this process have no more memory than it has now and `room` bytes.

    What was freed and kept for later is taken up too, in pieces of `PIECE`: a tiny model would find room there.
    """
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
    allocate = ctypes.CDLL(None).malloc
    allocate.argtypes, allocate.restype = [ctypes.c_size_t], ctypes.c_void_p
    while allocate(PIECE):
        pass  # each is kept


def clock(seconds: int) -> None:
    """Let the clock on the wall jump; the monotonic one does not."""
    from tunesmith import folder

    real = time.time
    time.time = lambda: real() + seconds
    folder.now = lambda: (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def poison(kind: str, value: float) -> Callable[[Any], Any]:
    """Make the loss (`loss`) or its gradient (`gradient`) of one micro-batch `value`, or multiply it (`spike`)."""
    import torch

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, loss: Any) -> Any:
            return loss.clone()

        @staticmethod
        def backward(context: Any, gradient: Any) -> Any:
            return gradient * value

    def changed(loss: Any) -> Any:
        if isinstance(loss, tuple):
            return (changed(loss[0]), *loss[1:])
        if kind == "gradient":
            return Backward.apply(loss)
        return loss * value if kind == "spike" else loss * 0 + value

    return changed


def exhaust() -> Callable[[Any], Any]:
    """Let torch say what it says when a GPU has no memory left."""
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 1.00 GiB free.")


ACTIONS: dict[str, Callable[..., Any]] = {
    "send": send,
    "serve": serve,
    "fill": fill,
    "limit": limit,
    "clock": clock,
    "poison": poison,
    "exhaust": exhaust,
}
