"""``aircache_ext.compress_layers`` against plain torch, the same compiled, and a repeat_kv version.

    python bench/compare_torch.py --json bench/results/compare_torch.json

All variants take turns in one process, on inputs that no cache still holds; memory bandwidth takes
its turn among them. See README.md for what the columns mean.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch

import agreement
import environment
import peak_memory
import timing
import variants
from aircache_ext import _C
from cases import DTYPES, Case, read_cases
from inputs import Inputs, make_inputs


def measure(
    case: Case,
    dtype: str,
    seconds: float,
    names: list[str],
    elite: int | None,
    device: torch.device,
) -> dict[str, object]:
    original = make_inputs(case, DTYPES[dtype], elite=elite, device=device)
    made = {name: variants.make(name, case) for name in names}
    calls, left_out = variants.runnable(made, original)
    agreed, kept = check(original, calls)

    element = DTYPES[dtype].itemsize
    key_bytes = _C.score_bytes(
        layers=case.layers,
        batch=case.batch,
        kv_heads=case.kv_heads,
        n_visual=case.n_visual,
        key_dim=case.head_dim,
        element_bytes=element,
    )
    survivor_bytes = _C.gather_bytes(
        kept=kept,
        kv_heads=case.kv_heads,
        key_dim=case.head_dim,
        value_dim=case.head_dim,
        element_bytes=element,
    )
    cache_bytes = environment.last_level_cache_bytes(device)
    inputs = timing.cold_copies(original, key_bytes, cache_bytes)

    timings = timing.interleave(
        timing.bandwidth_variants(cache_bytes, device) | timing.in_turn(calls, inputs),
        seconds=seconds,
        synchronize=torch.cuda.synchronize if device.type == "cuda" else lambda: None,
    )
    read, copy = timing.bandwidths(timings, cache_bytes, device)
    floor = key_bytes / read + survivor_bytes / copy
    ours = timings[variants.OURS].median
    rows = {
        name: timings[name].to_json()
        | {
            "slower_than_ours": timings[name].median / ours,
            "share_of_floor": floor / timings[name].median,
            "extra_memory": peak_memory.extra_memory(
                calls[name], original, peak_memory.__file__, "--variant", name, case, dtype
            ),
            "agreement": agreed[name].to_json() if name in agreed else None,
        }
        for name in calls
    }
    return {
        "case": case.name,
        "dtype": dtype,
        "copies": len(inputs),
        "key_bytes": key_bytes,
        "survivor_bytes": survivor_bytes,
        "read_bandwidth": read,
        "copy_bandwidth": copy,
        "floor_s": floor,
        "mean_elite": agreed[variants.OURS].mean_elite,
        "kept": kept,
        "variants": rows,
        "left_out": left_out,
    }


def check(
    inputs: Inputs, calls: dict[str, Callable[[Inputs], object]]
) -> tuple[dict[str, agreement.Agreement], int]:
    """How far the plain versions keep the tokens that ours keeps; and the number of survivors."""
    our_sets = [
        [layer.indices[row, 0, :count] for row, count in enumerate(layer.counts.tolist())]
        for layer in calls[variants.OURS](inputs)
    ]
    found = {variants.OURS: agreement.compare(inputs, our_sets, our_sets)}
    for name in calls.keys() & {variants.PLAIN, variants.PLAIN_HALF, variants.COMPILED}:
        their_sets = [layer.positions for layer in calls[name](inputs)]
        found[name] = agreement.compare(inputs, our_sets, their_sets)
        if found[name].unexplained and name != variants.PLAIN_HALF:
            raise SystemExit(f"{name} computes something else than aircache_ext: {found[name]}")
    return found, sum(len(row) for layer in our_sets for row in layer)


def print_table(result: dict[str, object]) -> None:
    print(
        f"\n{result['case']}, {result['dtype']}: {result['mean_elite']:.1f} elite tokens a layer, "
        f"{result['kept']} tokens kept; read {result['read_bandwidth'] / 1e9:.1f} GB/s, "
        f"copy {result['copy_bandwidth'] / 1e9:.1f} GB/s, floor {result['floor_s'] * 1e3:.2f} ms\n"
    )
    print(
        "| variant | median ms | MAD % | min ms | x ours | of the floor % | extra memory MB "
        "(allocator / resident) | of the cache % | scratch MB | tokens differing (not borderline) |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, row in result["variants"].items():
        memory = row["extra_memory"]
        agreed = row["agreement"]
        differing = f"{agreed['differing']} ({agreed['unexplained']})" if agreed else "other method"
        print(
            f"| {name} | {row['median_s'] * 1e3:.2f} | {100 * row['mad_s'] / row['median_s']:.1f} "
            f"| {row['min_s'] * 1e3:.2f} | {row['slower_than_ours']:.2f} "
            f"| {100 * row['share_of_floor']:.1f} "
            f"| {peak_memory.columns(memory)} "
            f"| {peak_memory.megabytes(memory.get('scratch_bytes'))} | {differing} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", help="rows of cases.csv (default: image)")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="default: fp32, bf16")
    parser.add_argument(
        "--elite",
        action="append",
        type=int,
        help="exactly so many elite tokens a layer, on which the cost depends (default: as drawn)",
    )
    parser.add_argument("--skip", action="append", default=[], choices=variants.NAMES[1:])
    parser.add_argument("--seconds", type=float, default=20, help="per case and dtype")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    report: dict[str, object] = {"benchmark": "compare_torch", **environment.record(args.device)}
    results = []
    for name in args.case or ["image"]:
        for dtype in args.dtype or ["fp32", "bf16"]:
            names = [n for n in variants.names_for(DTYPES[dtype]) if n not in args.skip]
            for elite in args.elite or [None]:
                torch._dynamo.reset()
                case = read_cases()[name]
                results.append(measure(case, dtype, args.seconds, names, elite, args.device))
                print_table(results[-1])
                if args.json:  # each time: what comes next may fail
                    args.json.write_text(json.dumps(report | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
