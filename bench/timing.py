"""Interleaved timing: variants take turns, so that whatever the machine does hits all of them."""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from inputs import Inputs


@dataclass(frozen=True)
class Timing:
    """Seconds of the single calls, in the order in which they were made."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def mad(self) -> float:
        """Median absolute deviation from the median."""
        return statistics.median(abs(s - self.median) for s in self.seconds)

    @property
    def minimum(self) -> float:
        return min(self.seconds)

    def to_json(self) -> dict[str, float | int]:
        return {
            "median_s": self.median,
            "mad_s": self.mad,
            "min_s": self.minimum,
            "samples": len(self.seconds),
        }


def cold_copies(original: Inputs, touched_bytes: int, cache_bytes: int) -> list[Inputs]:
    """``original`` and as many copies as touch twice a cache: taking turns with them, each is
    forgotten by its next turn."""
    copies = -(-2 * cache_bytes // touched_bytes)
    return [original] + [original.copy() for _ in range(copies)]


def in_turn(
    calls: Mapping[str, Callable[[Inputs], object]], inputs: Sequence[Inputs]
) -> dict[str, Callable[[], object]]:
    """The calls, each time on the next of the ``inputs``, which they share."""
    turns = itertools.cycle(inputs)

    def on_next(call: Callable[[Inputs], object]) -> Callable[[], object]:
        return lambda: call(next(turns))

    return {name: on_next(call) for name, call in calls.items()}


def interleave(
    variants: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    warm_ups: int = 3,
    fewest_samples: int = 10,
    synchronize: Callable[[], object] = lambda: None,
) -> dict[str, Timing]:
    """Calls every variant, round after round.

    A call ends with ``synchronize``: on a GPU its time is what the host waits, launches included.

    The variant that begins a round changes from round to round. Rounds go on until ``seconds`` have
    passed, but there are at least ``fewest_samples``.
    """
    names = list(variants)
    samples: dict[str, list[float]] = {name: [] for name in names}
    deadline = float("inf")
    for count in range(-warm_ups, 10**9):
        if count == 0:
            deadline = time.perf_counter() + seconds
        if count >= fewest_samples and time.perf_counter() > deadline:
            break
        shift = count % len(names)
        for name in names[shift:] + names[:shift]:
            call = variants[name]
            synchronize()
            start = time.perf_counter()
            result = call()
            synchronize()
            took = time.perf_counter() - start
            del result  # freeing is not part of the time, whoever made the memory
            if count >= 0:
                samples[name].append(took)
    return {name: Timing(taken) for name, taken in samples.items()}


def bandwidth_variants(
    cache_bytes: int, device: torch.device | None = None
) -> dict[str, Callable[[], object]]:
    """Reading and copying memory, to take turns with what is measured: the yardstick of the run."""
    source = torch.ones(streamed_bytes(cache_bytes, device) // 4, device=device)
    target = torch.empty_like(source).fill_(0)
    return {
        "read bandwidth": lambda: source.sum(),
        "copy bandwidth": lambda: target.copy_(source),
    }


def streamed_bytes(cache_bytes: int, device: torch.device | None = None) -> int:
    """What the bandwidth is measured on: four caches, and on a GPU enough to outweigh a launch."""
    return max(4 * cache_bytes, 4 << 30) if device and device.type == "cuda" else 4 * cache_bytes


def bandwidths(
    timings: Mapping[str, Timing], cache_bytes: int, device: torch.device | None = None
) -> tuple[float, float]:
    """Bytes per second read, and copied (bytes read and bytes written both counted)."""
    read, copy = timings["read bandwidth"], timings["copy bandwidth"]
    size = streamed_bytes(cache_bytes, device)
    return size / read.median, 2 * size / copy.median
