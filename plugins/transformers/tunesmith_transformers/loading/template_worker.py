"""The process that renders chat templates: Transformers' sandbox, with limits on memory and computing time.

It reads lines of JSON and answers each with one: `{"text": ...}` or `{"error": ...}`. The first line that it writes
says that it is ready. An endless template makes the system end this process, and not the one that asked.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

MEMORY = 512 << 20  # bytes that rendering may take on top of what this program takes
LONGEST = 64 << 20  # characters of what comes out


def main(seconds: int) -> None:
    from jinja2.exceptions import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _address_space() + MEMORY)
    answers = sys.stdout
    sys.stdout = sys.stderr  # nothing but answers may reach the one that asks
    print("ready", file=answers, flush=True)
    template = ""
    for line in sys.stdin:
        order = json.loads(line)
        template = order.get("template", template)
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds + 1)
        answer: dict[str, Any]
        try:
            (text,), _ = render_jinja_template(
                conversations=[order["messages"]],
                chat_template=template,
                tools=order["tools"],
                add_generation_prompt=order["generation_prompt"],
                **{**order["options"], **order["special"]},
            )
            answer = {"text": text} if len(text) <= LONGEST else {"error": "it writes too much", "fatal": True}
        except MemoryError:
            answer = {"error": f"it needs more than {MEMORY >> 20} MiB of memory", "fatal": True}
        # a template raises what Python's operators raise, too
        except (TemplateError, TypeError, KeyError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            answer = {"error": str(error) or type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _address_space() -> int:
    """Bytes of address space that this process takes, as far as the system tells it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 4 << 30  # more than the libraries take


if __name__ == "__main__":
    main(int(sys.argv[1]))
