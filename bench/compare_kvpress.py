"""``aircache_ext.compress_layers`` against the presses of kvpress and against plain and compiled
torch, in kvpress' environment.

    make bench-kvpress
    PYTHONPATH=python .venv-kvpress/bin/python bench/compare_kvpress.py --case batch --dtype bf16

All variants take turns in one process, on inputs that no cache still holds, and leave caches of one
size. A press does what its hook does after each layer; the model itself does not run. See README.md
for what the columns mean.
"""

import argparse
import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

import environment
import kvpress_variants
import peak_memory
import timing
import variants
from cases import DTYPES, Case, read_cases
from kvpress_variants import AIRCACHE, ALIKE, COUNTERPARTS, Cache
from press_inputs import PressInputs, make_press_inputs, positions

LEAST_IN_COMMON = 0.99  # in fp32: rounding may decide a borderline token


def measure(
    case: Case, dtype: str, seconds: float, fewest_samples: int, device: torch.device
) -> dict[str, object]:
    original = make_press_inputs(case, DTYPES[dtype], device)
    made = {name: kvpress_variants.make(name, case, device) for name in kvpress_variants.names()}
    calls, left_out = variants.runnable(made, original)
    common = tokens_in_common(original, calls, case.seq)
    for name in ALIKE & common.keys():
        if dtype == "fp32" and common[name] < LEAST_IN_COMMON:
            raise SystemExit(f"{name}: only {common[name]:.1%} of the kept tokens are the same")

    cache_bytes = environment.last_level_cache_bytes(device)
    key_bytes = sum(key.nbytes for key in original.keys)
    inputs = timing.cold_copies(original, key_bytes, cache_bytes)

    timings = timing.interleave(
        timing.in_turn(calls, inputs),
        seconds=seconds,
        fewest_samples=fewest_samples,
        synchronize=torch.cuda.synchronize if device.type == "cuda" else lambda: None,
    )
    rows = {
        name: timings[name].to_json()
        | {
            "extra_memory": peak_memory.extra_memory(
                calls[name], original, __file__, "--memory-of", name, case, dtype
            )
        }
        for name in calls
    }
    for name, in_common in common.items():
        row, median = rows[name], rows[name]["median_s"]
        row["slower_than_aircache"] = median / rows[AIRCACHE]["median_s"]
        row["slower_than_ours"] = median / rows[COUNTERPARTS[name]]["median_s"]
        row["in_common_with_ours"] = in_common
    return {
        "case": case.name,
        "dtype": dtype,
        "copies": len(inputs),
        "kept_per_layer": kvpress_variants.kept(case),
        "variants": rows,
        "left_out": left_out,
    }


def tokens_in_common(
    inputs: PressInputs, calls: dict[str, Callable[[PressInputs], Cache]], seq: int
) -> dict[str, float]:
    """Of each that has a counterpart in ours: the share of tokens kept by either that are kept by
    both."""
    shares = {}
    for name, counterpart in COUNTERPARTS.items():
        if name in calls:
            ours, theirs = (_kept(calls[n](inputs), seq) for n in (counterpart, name))
            shares[name] = ((ours & theirs).sum() / (ours | theirs).sum()).item()
    return shares


def _kept(cache: Cache, seq: int) -> torch.Tensor:
    """Which positions there are: ``[layers, batch, kv_heads, seq]`` bool."""
    layers = []
    for _, values in cache:
        kept = values.new_zeros((*values.shape[:2], seq), dtype=torch.bool)
        layers.append(kept.scatter_(2, positions(values), True))
    return torch.stack(layers)


def print_table(result: dict[str, object]) -> None:
    print(
        f"\n{result['case']}, {result['dtype']}: {result['kept_per_layer']} tokens a layer kept\n"
    )
    print(
        "| variant | median ms | MAD % | min ms | x AirCache | x same method | same tokens % "
        "| extra memory MB (allocator / resident) | of the cache % |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, row in result["variants"].items():
        common = row.get("in_common_with_ours")
        print(
            f"| {name} | {row['median_s'] * 1e3:.2f} | {100 * row['mad_s'] / row['median_s']:.1f} "
            f"| {row['min_s'] * 1e3:.2f} | {number(row.get('slower_than_aircache'))} "
            f"| {number(row.get('slower_than_ours'))} | {number(common and 100 * common)} "
            f"| {peak_memory.columns(row['extra_memory'])} |",
            flush=True,
        )


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", help="rows of cases.csv (default: image)")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="default: fp32, bf16")
    parser.add_argument("--seconds", type=float, default=20, help="per case and dtype")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--toy", action="store_true", help="only see that it runs, in seconds")
    parser.add_argument("--memory-of", metavar="VARIANT", help="print the extra memory of one")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    names = args.case or ["toy" if args.toy else "image"]
    dtypes = args.dtype or (["fp32"] if args.toy else ["fp32", "bf16"])
    cases = [read_cases()[name] for name in names]
    if args.memory_of:
        inputs = make_press_inputs(cases[0], DTYPES[dtypes[0]], args.device)
        call = kvpress_variants.make(args.memory_of, cases[0], args.device)
        print(json.dumps(peak_memory.measure(call, inputs)))
        return

    seconds, fewest_samples = (0.0, 3) if args.toy else (args.seconds, 10)
    versions = {name: version(name) for name in ("kvpress", "transformers")}
    report = {"benchmark": "compare_kvpress", **environment.record(args.device), **versions}
    results = []
    for case in cases:
        for dtype in dtypes:
            torch._dynamo.reset()
            results.append(measure(case, dtype, seconds, fewest_samples, args.device))
            print_table(results[-1])
            if args.json:  # each time: what comes next may fail
                args.json.write_text(json.dumps(report | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
