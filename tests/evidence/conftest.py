"""The evidence's generator, model and training are scripts beside each other, not a package."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers.models.siglip.image_processing_pil_siglip")
pytest.importorskip("matplotlib")
sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "evidence"))
