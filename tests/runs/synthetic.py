"""Run folders as `lab train` leaves them, without training: numbers that look like learning."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

LADDER = {  # what each rung adds to the one before: option, bits per byte, change in parameters
    "ladder_0_2017": (2.412, 3_412_224),
    "ladder_1_pre_norm": (2.289, 3_412_736),
    "ladder_2_rmsnorm": (2.290, 3_410_176),
    "ladder_3_rope": (2.198, 3_410_176),
    "ladder_4_gated": (2.171, 3_415_296),
    "ladder_5_gqa": (2.175, 3_213_440),
    "ladder_6_llm_2024": (2.160, 3_213_440),
}


def write_run(
    folder: Path,
    overrides: Sequence[str],
    value: float | None,
    seed: int = 0,
    configuration: str | None = None,
    steps: int = 400,
    without: Iterable[str] = (),
    **result: Any,
) -> Path:
    """A run folder whose `val/bpb` is `value`; `result` sets keys of `result.json`, `without` drops some."""
    folder.mkdir(parents=True)
    typed = [*overrides, f"seed={seed}"]
    choices = {"attention": "mha", "position": "sinusoidal", "tokenizer": "bpe"}
    choices |= {key: option for key, _, option in (text.partition("=") for text in overrides) if "." not in key}
    parameters = result.get("parameters", 3_412_224)
    tokens = steps * 2048
    content = {
        "status": "finished",
        "error": None,
        "headline": {"name": "val/bpb", "unit": "bits per byte", "direction": "min"},
        "val/bpb": value,
        "val/loss": None if value is None else value * 2.1,
        "train/loss": None if value is None else value * 2.0,
        "parameters": parameters,
        "parameters_active": parameters,
        "flops": 6 * parameters * tokens,
        "tokens_seen": tokens,
        "steps": steps,
        "tokens_per_second": 13_500 + 40 * seed,
        "peak_memory_bytes": 612_000_000 + 1_000_000 * seed,
        "seconds": tokens / 13_500,
        "seed": seed,
        "threads": 2,
        "devices": 1,
        "choices": choices,
        "overrides": typed,
        "configuration": configuration or " ".join(sorted(overrides)),
        "data_fingerprint": "d4f1",
        "tokenizer/lost_share": 0.0,
        "versions": {"torch": "2.13.0", "lab": "0.1.0", "python": "3.12.3"},
        "started": f"2025-11-24T03:{seed:02d}:00+00:00",
        "wandb": str(folder / "wandb" / f"offline-run-{folder.name}"),
        **result,
    }
    config = {"seed": seed, "model": {"dim": 256}, "tokenizer": {"vocab_size": 4096}, "folder": str(folder)}
    (folder / "result.json").write_text(json.dumps({k: v for k, v in content.items() if k not in set(without)}))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "overrides.yaml").write_text(yaml.safe_dump(typed))
    _write_curve(folder / "metrics.csv", value or 3.0, content, seed)
    return folder


def write_ladder(folder: Path, seeds: int = 5, noise: float = 0.012, rungs: Sequence[str] = tuple(LADDER)) -> Path:
    """A sweep folder: cumulative swaps in the order of its `plan.json`; a seed shifts all rungs alike."""
    random = np.random.default_rng(0)
    shared = random.normal(0, noise, seeds)
    plan = []
    for number, rung in enumerate(rungs):
        bits, parameters = LADDER[rung]
        for seed in range(seeds):
            name = f"{rung}-{seed}"
            value = bits + shared[seed] + random.normal(0, noise / 3)
            write_run(folder / name, [f"preset={rung}"], value, seed, f"hash{number}", parameters=parameters)
            plan.append({"folder": name, "overrides": [f"preset={rung}", f"seed={seed}"]})
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder


def write_search(folder: Path, trials: int = 40, seeds: int = 2) -> Path:
    """A random search: the learning rate matters most, the width some, the norm not at all."""
    random = np.random.default_rng(1)
    for trial in range(trials):
        rate, dim = float(f"{10 ** random.uniform(-4, -1.5):.3g}"), int(random.choice([64, 96, 128, 192]))
        norm, position = str(random.choice(["layernorm", "rmsnorm"])), str(random.choice(["rope", "learned"]))
        bits = 2.3 + 0.25 * (np.log10(rate) + 2.6) ** 2 - 0.12 * np.log2(dim / 64) + 0.05 * (position == "learned")
        overrides = [f"optimizer.lr={rate}", f"model.dim={dim}", f"norm={norm}", f"position={position}"]
        for seed in range(seeds):
            value = float(bits + random.normal(0, 0.01))
            name = f"{trial}-{seed}"
            write_run(folder / name, overrides, value, seed, f"trial{trial}", parameters=12 * dim**2 * 4)
    return folder


def write_scale(folder: Path, seeds: int = 4, noise: float = 0.004, closing: float = 0.5) -> Path:
    """Two variants at five widths on L = 1.5 + 0.6 (C / C0)^-0.3; the second is worse by 0.1 (C / C0)^-closing."""
    random = np.random.default_rng(3)
    for dim in (32, 64, 128, 256, 512):
        parameters = 48 * dim**2
        size = (dim / 32) ** 2
        for attention, extra in (("mha", 0.0), ("mqa", 0.1)):
            for seed in range(seeds):
                bits = 1.5 + 0.6 * size**-0.3 + extra * size**-closing + random.normal(0, noise)
                overrides = [f"model.dim={dim}", f"attention={attention}"]
                write_run(folder / f"{dim}-{attention}-{seed}", overrides, bits, seed, parameters=parameters)
    return folder


def _write_curve(path: Path, final: float, result: dict[str, Any], seed: int) -> None:
    random = np.random.default_rng(seed)
    steps = result["steps"]
    columns = ["step", "tokens", "flops", "seconds", "train/loss", "val/loss", "val/bpb", "lr"]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for step in range(5, steps + 1, 5):
            done = step / steps
            bits = final + 2.4 * (1 - done) * np.exp(-9 * done) + 0.35 * (1 - done) ** 2
            validated = [round(bits * 2.1, 5), round(bits, 5)] if step % 40 == 0 else ["", ""]
            training = round(bits * 2.0 + random.normal(0, 0.06), 5)
            costs = [step * 2048, step * 2048 * 6 * result["parameters"], round(done * result["seconds"], 3)]
            writer.writerow([step, *costs, training, *validated, 0.001])
