"""Files that grow line by line."""

from __future__ import annotations

from pathlib import Path


def whole_lines(path: Path) -> list[str]:
    """Those of a file, none if it is not there. Half a line at the end, left by an interruption, is
    cut off."""
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        path.write_bytes(whole)
    return whole.decode("utf-8").split("\n")[:-1]
