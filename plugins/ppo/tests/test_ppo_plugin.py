"""The plugin as a whole."""

from __future__ import annotations

import re
from pathlib import Path

import tunesmith_ppo
import tunesmith_transformers


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_ppo)


def test_every_detail_that_the_page_lists_is_named_by_its_number_in_the_code():
    page = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = page.split("| detail | in the paper")[1].split("The others are about")[0]
    listed = re.findall(r"^\| (\d+(?:\.\d)?) \|", table, re.MULTILINE)
    folders = [Path(module.__file__).parent for module in (tunesmith_ppo, tunesmith_transformers)]
    code = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for f in folders for path in f.rglob("*.py"))
    named = set()
    for numbers in re.findall(r"[Dd]etails? ((?:\d+(?:\.\d)?(?:, | and )?)+)", code.replace("# ", "")):
        named.update(re.findall(r"\d+(?:\.\d)?", numbers))
    assert listed
    assert set(listed) <= named
