"""``python -m aircache_ext info``, as a user calls it."""

import re
import subprocess
import sys

import torch

import aircache_ext


def test_info_names_what_a_bug_report_needs():
    done = subprocess.run(
        [sys.executable, "-m", "aircache_ext", "info"], capture_output=True, text=True, check=True
    )
    lines = dict(re.split(" {2,}", line, maxsplit=1) for line in done.stdout.splitlines())
    assert lines["aircache_ext"].startswith(aircache_ext.__version__)
    assert torch.__version__ in lines["torch"]
    assert "in use" in lines["CPU kernels"]
    assert lines.keys() >= {"processor", "CUDA kernels", "transformers", "Python", "GPUs"}
