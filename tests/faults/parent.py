"""A process that has imported the heavy libraries once and forks one console command after another.

It reads lines of JSON: `["start", log, [words]]` answers the pid of a new process that runs `tunesmith WORDS` and
writes both streams to `log`; `["wait", pid]` answers its exit code, negative for the signal that killed it.
"""

import gc
import importlib
import json
import os
import signal
import sys

HEAVY = (
    "peft",
    "tunesmith_data.loaders",
    "tunesmith_full.adapters",
    "tunesmith_lora.adapter",
    "tunesmith_preference.trainer",
    "tunesmith_sft.trainer",
    "tunesmith_transformers.perplexity",
    "tunesmith_transformers.sources",
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
            log, words = rest
            pid = os.fork()
            if pid == 0:
                os.setsid()
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
                target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(target, 1)
                os.dup2(target, 2)
                code = console(words)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            print(pid, flush=True)
        else:
            print(os.waitstatus_to_exitcode(os.waitpid(rest[0], 0)[1]), flush=True)


if __name__ == "__main__":
    main()
