"""What a cache has seen, what it holds, and what that saved."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """Printing it gives a table."""

    seen: list[int]
    """Tokens seen, per row of the batch, without padding."""
    kept: dict[int, list[int]]
    """Tokens held, per compressed layer and row. Other layers are left as they are."""
    bytes_before: int
    """What the compressed layers would hold had nothing been dropped, padding included."""
    bytes_after: int
    """What they hold."""
    seconds: float
    """Time of all evictions: scores, budgets and moving the survivors."""
    allocated_before: int | None
    """Bytes the device's allocator had given out before and after the last eviction; None if the
    device has no allocator to ask, or nothing was evicted."""
    allocated_after: int | None

    def __str__(self) -> str:
        lines = [f"{'layer':>5}  tokens kept of " + " ".join(map(str, self.seen))]
        lines += [f"{layer:>5}  " + " ".join(map(str, row)) for layer, row in self.kept.items()]
        share = self.bytes_after / self.bytes_before if self.bytes_before else 1.0
        lines.append(
            f"cache {size(self.bytes_before)} -> {size(self.bytes_after)} "
            f"({share:.1%}), compressed in {1e3 * self.seconds:.1f} ms"
        )
        if self.allocated_before is not None and self.allocated_after is not None:
            lines.append(
                f"device memory in use {size(self.allocated_before)} -> "
                f"{size(self.allocated_after)}"
            )
        return "\n".join(lines)


def size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"
