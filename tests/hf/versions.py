"""What older versions of transformers cannot do themselves, whatever the cache."""

import pytest
import transformers

VERSION = tuple(map(int, transformers.__version__.split(".")[:2]))


def since(minor: int, what: str) -> pytest.MarkDecorator:
    """Skips a test before transformers 5.``minor``, the first version known to have ``what``."""
    return pytest.mark.skipif(VERSION < (5, minor), reason=f"transformers 5.{minor}: {what}")


# By family: the first version known to run every test of it with a stock cache.
FAMILIES = {
    "qwen3_5": since(12, "Qwen3.5 with a cache that is given"),
    "gemma3": since(20, "Gemma 3: a second turn longer than its sliding window"),
}


def families(*names: str) -> list:
    """Parameters for ``pytest.mark.parametrize``."""
    return [pytest.param(name, marks=FAMILIES.get(name, ())) for name in names]
