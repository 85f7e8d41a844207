"""The system calls of a save: written down, failed or made deadly one by one (strace), and what they leave unsafe."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from faults.victims import Victims

#: System calls that change what is on a disk, or open what is.
CHANGING = (
    *("open", "openat", "creat", "write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "msync"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "link", "linkat"),
    *("symlink", "symlinkat", "ftruncate", "truncate", "fallocate", "copy_file_range", "sendfile"),
)
LINE = re.compile(r"^\d+ +(\w+)\((.*)\) = (-?\d+)(.*)$")


@dataclass(frozen=True)
class Call:
    """One system call, as strace writes it down: its name, its arguments, what it returned."""

    name: str
    arguments: str
    returned: int
    rest: str


def read_calls(log: Path) -> list[Call]:
    """The calls in a log that were carried out."""
    found = (LINE.match(line) for line in log.read_text(errors="replace").splitlines())
    return [Call(m[1], m[2], int(m[3]), m[4]) for m in found if m]


def need_strace() -> str:
    """The path of strace; skips where it is not there or not permitted."""
    command = shutil.which("strace")
    if command is None:
        pytest.skip("no strace")
    tried = subprocess.run([command, "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"strace is not permitted here: {tried.stderr.strip()}")
    return command


class Brink:
    """A run that stands at a point; one copy of its process after another goes on from there.

    Args:
        run: its folder, which is put back as it was at that point before each goes on.
        end: the point at which a copy that got there is killed.
    """

    def __init__(
        self, victims: Victims, words: list[str | Path], run: Path, point: str, place: Path, end: str | None = None
    ) -> None:
        self.strace = need_strace()
        self.run, self.log = run, place / "calls.log"
        place.mkdir()
        pipes = [place / "orders", place / "answers"]
        for pipe in pipes:
            os.mkfifo(pipe)
        self.victims = victims
        ending = {end: ["send", signal.SIGKILL]} if end else {}
        self.pid = victims.start(*words, actions={point: ["serve", *map(str, pipes)], **ending})
        self.orders, self.answers = pipes[0].open("w"), pipes[1].open()
        self.output, self.snapshot = victims.log, place / "snapshot"
        shutil.copytree(run, self.snapshot)

    def go(self, *options: str) -> int:
        """Let a copy go on under strace with `options`; its exit code."""
        shutil.rmtree(self.run)
        shutil.copytree(self.snapshot, self.run)
        os.truncate(self.output, 0)
        print("go", file=self.orders, flush=True)
        pid = int(self.answers.readline())
        command = [self.strace, "-f", "-y", "-o", str(self.log), *options, "-p", str(pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            assert "attached" in (said := tracer.stderr.readline()), said
            os.kill(pid, signal.SIGCONT)
            code = int(self.answers.readline())
            tracer.stderr.read()
        return code

    def said(self) -> str:
        """What the last copy wrote to its two streams."""
        return self.output.read_text()

    def failed_to_print(self) -> bool:
        """Whether the call that was made to fail wrote to a stream of the last copy."""
        injected = [line for line in self.log.read_text(errors="replace").splitlines() if "(INJECTED)" in line]
        return any(f"<{self.output}>" in line.split(",")[0] for line in injected)

    def counted(self) -> Counter[str]:
        """How often each call is made from here to where a copy ends by itself."""
        self.go("-e", f"trace={','.join(CHANGING)}")
        return Counter(line.split("(")[0].split()[-1] for line in self.log.read_text().splitlines() if "(" in line)

    def close(self) -> None:
        self.orders.close()
        self.answers.close()
        self.victims.wait(self.pid)


@contextmanager
def brink(
    victims: Victims, words: list[Any], run: Path, point: str, place: Path, end: str | None = None
) -> Iterator[Brink]:
    """A `Brink` that is closed in the end."""
    made = Brink(victims, words, run, point, place, end)
    try:
        yield made
    finally:
        made.close()
