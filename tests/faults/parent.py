"""A process that has imported the heavy libraries once and forks one console command after another.

It reads lines of JSON: `["start", log, [words], {point: action}]` answers the pid of a new process that runs
`tunesmith WORDS`, writes both streams to `log`, and meets what `points.py` describes; `["wait", pid]` answers its
exit code, negative for the signal that killed it.
"""

import gc
import importlib
import json
import os
import signal
import sys

import points

HEAVY = (
    "bitsandbytes",
    "peft",
    "tunesmith_adalora.adapter",
    "tunesmith_data.loaders",
    "tunesmith_export.merge",
    "tunesmith_full.adapters",
    "tunesmith_lora.adapter",
    "tunesmith_ppo.trainer",
    "tunesmith_preference.trainer",
    "tunesmith_qlora.quantizers",
    "tunesmith_reward.trainer",
    "tunesmith_sft.trainer",
    "tunesmith_transformers.evaluation.perplexity",
    "tunesmith_transformers.sources.factories",
)


def main() -> None:
    for name in HEAVY:
        importlib.import_module(name)
    from tunesmith.console import main as console

    gc.freeze()  # or every collection of every victim walks through all of torch
    print("ready", flush=True)
    for line in sys.stdin:
        order, *rest = json.loads(line)
        if order == "start":
            log, words, actions = rest
            pid = os.fork()
            if pid == 0:
                os.setsid()
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
                target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(target, 1)
                os.dup2(target, 2)
                points.watch(actions)
                code = console(words)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            print(pid, flush=True)
        else:
            print(os.waitstatus_to_exitcode(os.waitpid(rest[0], 0)[1]), flush=True)


if __name__ == "__main__":
    main()
