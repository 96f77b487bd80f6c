"""Reads cases.csv, the one table of shapes that C++ and Python measure."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path

import torch

TABLE = Path(__file__).with_name("cases.csv")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """``text_before`` text tokens, then visual tokens, then ``window`` instruction tokens."""

    name: str
    tier: str
    layers: int
    batch: int
    query_heads: int
    kv_heads: int
    seq: int
    text_before: int
    window: int
    head_dim: int
    dtypes: tuple[str, ...]

    @property
    def group(self) -> int:
        return self.query_heads // self.kv_heads

    @property
    def n_visual(self) -> int:
        return self.seq - self.text_before - self.window


def read_cases() -> dict[str, Case]:
    with TABLE.open(newline="") as file:
        return {row["name"]: _case(row) for row in csv.DictReader(file)}


def _case(row: dict[str, str]) -> Case:
    integers = {f.name: int(row[f.name]) for f in fields(Case) if f.type is int}
    return Case(
        name=row["name"], tier=row["tier"], dtypes=tuple(row["dtypes"].split("|")), **integers
    )
