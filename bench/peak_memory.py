"""Extra memory while compressing: peak - inputs - outputs, of one variant in its own process.

    python bench/peak_memory.py --case image --dtype fp32 --variant aircache_ext

Two sound but different measures, side by side:

allocator  torch's CPU allocator, from the profiler's memory events: exact to the byte, blind to
           what libraries allocate behind torch's back
resident   the kernel's high-water mark of the process (VmHWM), reset before the call: sees
           everything, but also pages that the C library keeps, at a grain of about a megabyte

By this definition, memory that is freed before the outputs are made counts only where it exceeds
them. So the most that is ever alive beside the outputs stands there too: ``scratch``, by the
allocator.

On a GPU: torch's CUDA allocator's own peak, and the most that it reserved from the device. Both can
be reset, so there no variant needs a process of its own.

The variant is called before, so that code pages, thread pools and compiled graphs are not counted.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

import variants
from cases import DTYPES, Case, read_cases
from inputs import Inputs, make_inputs

WARM_UPS = 3


def allocator_extra(call: Callable[[Inputs], object], inputs: Inputs) -> tuple[int, int]:
    """Peak less outputs; and the stricter scratch, the most that is alive beside the outputs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        result = call(inputs)
    allocations = _allocations(run.profiler.kineto_results.experimental_event_tree())
    alive: dict[int, int] = {}
    for pointer, size in allocations:
        if size > 0:
            alive[pointer] = size
        else:
            alive.pop(pointer, None)
    outputs = sum(alive.values())
    del result

    live = peak = scratch = most_scratch = 0
    last_use = {pointer: i for i, (pointer, size) in enumerate(allocations) if size > 0}
    for i, (pointer, size) in enumerate(allocations):
        live += size
        is_output = pointer in alive and i >= last_use[pointer]
        scratch += 0 if is_output else size
        peak, most_scratch = max(peak, live), max(most_scratch, scratch)
    return peak - outputs, most_scratch


def _allocations(tree: list) -> list[tuple[int, int]]:
    """(address, bytes; negative when freed) of every memory event, in order of time."""
    found = []
    stack = list(tree)
    while stack:
        event = stack.pop()
        stack.extend(event.children)
        if event.tag == _EventType.Allocation:
            fields = event.extra_fields
            found.append((event.start_time_ns, fields.ptr, fields.alloc_size))
    return [(pointer, size) for _, pointer, size in sorted(found, key=lambda f: f[0])]


def resident_extra(call: Callable[[Inputs], object], inputs: Inputs) -> int | None:
    """The same from the process's resident set; None where the kernel offers no reset."""
    gc.collect()
    # Memory that the C library kept from the warm-ups would be used again and hide what is needed.
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    result = call(inputs)
    peak = _status("VmHWM")
    outputs = sum(t.nbytes for t in _tensors(result))
    return max(0, peak - before - outputs)


def cuda_extra(call: Callable[[Inputs], object], inputs: Inputs) -> tuple[int, int]:
    """Peak less outputs by torch's CUDA allocator, and what it had to reserve for it."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    result = call(inputs)
    torch.cuda.synchronize()
    outputs = sum(t.nbytes for t in _tensors(result))
    peak = torch.cuda.max_memory_allocated() - before - outputs
    return peak, torch.cuda.max_memory_reserved() - reserved - outputs


def measure(call: Callable[[Inputs], object], inputs: Inputs) -> dict[str, int | None]:
    for _ in range(WARM_UPS):
        call(inputs)
    cache = sum(t.nbytes for t in (*inputs.keys, *inputs.values))
    if inputs.visual.is_cuda:
        allocator, reserved = cuda_extra(call, inputs)
        found = {"allocator_bytes": allocator, "reserved_bytes": reserved}
    else:
        found = {"resident_bytes": resident_extra(call, inputs)}
        found["allocator_bytes"], found["scratch_bytes"] = allocator_extra(call, inputs)
    return {"cache_bytes": cache, **found}


def extra_memory(
    call: Callable[[Inputs], object],
    inputs: Inputs,
    program: Path | str,
    option: str,
    variant: str,
    case: Case,
    dtype: str,
) -> dict[str, int | None]:
    """Of ``call`` on a GPU. On a CPU what ``program`` prints of the same variant, named by
    ``option``: its process's high-water mark nothing else has raised."""
    if inputs.visual.is_cuda:
        return measure(call, inputs)
    command = [sys.executable, str(program), option, variant, "--case", case.name, "--dtype", dtype]
    command += ["--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def columns(memory: dict[str, int | None]) -> str:
    """Two of a table: both measures, and the larger as a share of the cache in percent."""
    sizes = [memory["allocator_bytes"], memory.get("resident_bytes")]
    share = max(size or 0 for size in sizes) / memory["cache_bytes"]
    return f"{' / '.join(map(megabytes, sizes))} | {100 * share:.2f}"


def megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.2f}"


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"no {field} in /proc/self/status")


def _tensors(result: object) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, (list, tuple)):
        return [tensor for part in result for tensor in _tensors(part)]
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", default="image")
    parser.add_argument("--dtype", default="fp32", choices=DTYPES)
    parser.add_argument("--variant", default=variants.OURS, choices=variants.NAMES)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    case = read_cases()[args.case]
    inputs = make_inputs(case, DTYPES[args.dtype], device=args.device)
    print(json.dumps(measure(variants.make(args.variant, case), inputs)))


if __name__ == "__main__":
    main()
