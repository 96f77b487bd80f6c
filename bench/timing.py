"""Interleaved timing: variants take turns, so that whatever the machine does hits all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch


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


def cold_copies(touched_bytes: int, cache_bytes: int) -> int:
    """How many inputs must take turns for a cache to have forgotten the first: twice its size."""
    return 1 + -(-2 * cache_bytes // touched_bytes)


def in_turn(calls: Mapping[str, Callable], inputs: Sequence[object]) -> dict[str, Callable]:
    """The calls by turn, each turn on the next of the ``inputs``."""

    def rotating(call: Callable[[object], object]) -> Callable[[int], object]:
        return lambda turn: call(inputs[turn % len(inputs)])

    return {name: rotating(call) for name, call in calls.items()}


def interleave(
    variants: Mapping[str, Callable[[int], object]],
    *,
    seconds: float,
    warm_ups: int = 3,
    fewest_samples: int = 10,
    synchronize: Callable[[], object] = lambda: None,
) -> dict[str, Timing]:
    """Calls every variant with a running turn number, round after round.

    A call ends with ``synchronize``: on a GPU its time is what the host waits, launches included.

    The variant that begins a round changes from round to round. Rounds go on until ``seconds`` have
    passed, but there are at least ``fewest_samples``.
    """
    names = list(variants)
    samples: dict[str, list[float]] = {name: [] for name in names}
    turn = 0
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
            result = call(turn)
            synchronize()
            took = time.perf_counter() - start
            del result  # freeing is not part of the time, whoever made the memory
            turn += 1
            if count >= 0:
                samples[name].append(took)
    return {name: Timing(taken) for name, taken in samples.items()}


def bandwidth_variants(
    cache_bytes: int, device: torch.device | None = None
) -> dict[str, Callable[[int], object]]:
    """Reading and copying memory, to take turns with what is measured: the yardstick of the run."""
    source = torch.ones(streamed_bytes(cache_bytes, device) // 4, device=device)
    target = torch.empty_like(source).fill_(0)
    return {
        "read bandwidth": lambda _: source.sum(),
        "copy bandwidth": lambda _: target.copy_(source),
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
