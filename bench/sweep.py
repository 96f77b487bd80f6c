"""Does the time of ``compress_layers`` grow in proportion to S, to L and to B?

    python bench/sweep.py --json bench/results/sweep.json

Along each axis all points take turns in one process. A point's unit cost is its time per key, layer
and row. "worst step" is the largest ratio between the unit costs of neighbouring points, in either
direction: a tile or a launch limit that costs something when it is crossed shows up there. The line
``time = fixed + unit * size`` is fitted by relative least squares, so that small points count as
much as large ones.
"""

import argparse
import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import torch

import environment
import timing
import variants
from cases import DTYPES, Case, read_cases
from inputs import make_inputs

ELITE = 4  # in every layer and row: the work is proportional to it

# Around 4,096 and 8,192 the steps are small: powers of two are where tiles begin and end.
AXES = {
    "seq": [1024, 2048, 4032, 4095, 4096, 4097, 4160, 8191, 8192, 8193, 16384, 32768, 65536],
    "layers": [1, 2, 3, 4, 6, 8, 12, 16, 24, 28, 32],
    "batch": [1, 2, 3, 4, 6, 8],
}


def measure(case: Case, axis: str, dtype: str, seconds: float) -> dict[str, object]:
    cache_bytes = environment.last_level_cache_bytes()
    points = AXES[axis]
    calls = {}
    for point in points:
        shape = dataclasses.replace(case, **{axis: point})
        original = make_inputs(shape, DTYPES[dtype], elite=ELITE)
        inputs = timing.cold_copies(original, original.nbytes(), cache_bytes)
        calls |= timing.in_turn({str(point): variants.make(variants.OURS, shape)}, inputs)
    timings = timing.interleave(timing.bandwidth_variants(cache_bytes) | calls, seconds=seconds)

    times = np.array([timings[str(point)].median for point in points])
    sizes = work(case, axis, np.array(points))
    unit = times / sizes
    fixed, slope = fit(sizes, times)
    steps = np.maximum(unit[1:] / unit[:-1], unit[:-1] / unit[1:])
    worst = int(steps.argmax())
    read, copy = timing.bandwidths(timings, cache_bytes)
    return {
        "axis": axis,
        "dtype": dtype,
        "case": dataclasses.asdict(case),
        "read_bandwidth": read,
        "copy_bandwidth": copy,
        "points": [
            {axis: point, "ns_per_key_layer_row": unit[i] * 1e9, **timings[str(point)].to_json()}
            for i, point in enumerate(points)
        ],
        "fit": {"fixed_s": fixed, "ns_per_key_layer_row": slope * 1e9},
        "worst_deviation_from_fit": float(np.abs(times / (fixed + slope * sizes) - 1).max()),
        "worst_step": {"ratio": float(steps[worst]), "between": points[worst : worst + 2]},
    }


def work(case: Case, axis: str, points: np.ndarray) -> np.ndarray:
    """Keys x layers x rows of every point."""
    return points * math.prod(getattr(case, name) for name in AXES if name != axis)


def fit(sizes: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """Of ``time = fixed + unit * size``, minimising relative errors."""
    columns = np.stack([1 / times, sizes / times], axis=1)
    (fixed, slope), *_ = np.linalg.lstsq(columns, np.ones(len(times)), rcond=None)
    return float(fixed), float(slope)


def plot(results: list[dict[str, object]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes = list(dict.fromkeys(result["axis"] for result in results))
    figure, panels = pyplot.subplots(1, len(axes), figsize=(4.5 * len(axes), 3.6), squeeze=False)
    for panel, axis in zip(panels[0], axes, strict=True):
        for result in (r for r in results if r["axis"] == axis):
            x = np.array([point[axis] for point in result["points"]])
            times = np.array([point["median_s"] for point in result["points"]])
            case = Case(**result["case"])
            sizes = work(case, axis, x)
            line = result["fit"]
            (dots,) = panel.plot(x, times * 1e3, "o", label=result["dtype"], markersize=4)
            fitted = line["fixed_s"] + line["ns_per_key_layer_row"] * 1e-9 * sizes
            panel.plot(x, fitted * 1e3, color=dots.get_color(), linewidth=1)
        fixed = [f"{name} {getattr(case, name)}" for name in AXES if name != axis]
        panel.set_xscale("log", base=2)
        panel.set(yscale="log", xlabel=axis, title=", ".join(fixed))
        panel.set_ylabel("ms per call")
        panel.legend()
    figure.suptitle("compress_layers: measured points and the fitted line", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axis", action="append", choices=AXES, help="default: all")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="default: fp32, bf16")
    parser.add_argument("--seconds", type=float, default=30, help="per axis and dtype")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="also draws a .png beside it")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    report: dict[str, object] = {"benchmark": "sweep", **environment.record()}
    case = read_cases()["sweep"]
    results = []
    print("| axis | dtype | ns per key, layer, row | fixed us | off the line % | worst step |")
    print("|---|---|---:|---:|---:|---|")
    for axis in args.axis or AXES:
        for dtype in args.dtype or ["fp32", "bf16"]:
            result = measure(case, axis, dtype, args.seconds)
            results.append(result)
            line, step = result["fit"], result["worst_step"]
            print(
                f"| {axis} | {dtype} | {line['ns_per_key_layer_row']:.1f} "
                f"| {line['fixed_s'] * 1e6:.0f} "
                f"| {100 * result['worst_deviation_from_fit']:.1f} "
                f"| x {step['ratio']:.2f} from {step['between'][0]} to {step['between'][1]} |",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(report | {"results": results}, indent=1) + "\n")
        plot(results, args.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
