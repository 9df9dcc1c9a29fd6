"""All benchmarks, each in a process of its own so that none inherits another's memory, in one table."""

from __future__ import annotations

import json
import subprocess
import sys

from rich.console import Console

from benchmarks.measure import facts, prepare_machine, show

NAMES = (
    "step", "decoding", "masked", "translation", "recurrent", "huggingface", "block", "attention", "experts", "trainer",
    "memory", "data", "words", "sweep",
)  # fmt: skip

prepare_machine()
findings = []
for name in NAMES:
    Console(stderr=True).print(f"{name} ...")
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--json"], check=True, stdout=subprocess.PIPE, text=True
    )
    findings += json.loads(done.stdout)["findings"]
show({"machine": facts(), "findings": findings}, "--json" in sys.argv[1:])
