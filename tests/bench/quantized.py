"""Held-out perplexity and size of the embedded model in float32, int8, NF4, NF4 with double quantization, and FP4.

Run: python tests/bench/quantized.py [ROWS] [SOURCE]
ROWS held-out rows of the docstrings (default 96), the same for each; intervals are the evaluator's own (95 %, over
rows). Each is loaded in a process of its own. Needs tunesmith-qlora.
"""

from __future__ import annotations

import sys

from one_run import MODEL, measured

SIDES = {
    "float32": None,
    "int8": {"use": "int8"},
    "nf4": {"use": "nf4", "double_quant": False},
    "nf4 + double quantization": {"use": "nf4", "double_quant": True},
    "fp4": {"use": "fp4"},
}


def main(rows: int, source: str) -> None:
    print("| weights | perplexity | 95 % interval | rows | bits a parameter | of the whole model | MB | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, quantizer in SIDES.items():
        recipe = {
            "run": {"device": "cpu"},
            "model": {"source": source},
            "data": {"use": "docstrings", "validation": 0.1},
            "adapter": {"use": "lora"},
            "trainer": {"use": "sft"},
            "evaluate": [{"use": "perplexity", "rows": rows}],
            **({"quantizer": quantizer} if quantizer else {}),
        }
        found = measured("base", recipe)
        print(
            f"| {name} | {found['value']:.2f} | {found['low']:.2f} to {found['high']:.2f} | {found['n']} "
            f"| {found['bits_a_parameter']:.3f} | {found['bits_a_parameter_of_the_model']:.2f} "
            f"| {found['bytes'] / 1e6:.0f} | {found['seconds']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 96, sys.argv[2] if len(sys.argv) > 2 else MODEL)
