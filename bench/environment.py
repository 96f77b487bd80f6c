"""What a measured number must be read beside: hardware, versions, commit, command, time."""

import datetime
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch

import aircache_ext
from aircache_ext.cli.info import processor

CPU = torch.device("cpu")


def record(device: torch.device = CPU) -> dict[str, object]:
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "last_level_cache_bytes": last_level_cache_bytes(device),
        "isa": aircache_ext._C.cpu_isa(),
        "torch_isa": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "aircache_ext": aircache_ext.__version__,
        "load_average_before": os.getloadavg()[0],
        **(_gpu(device) if device.type == "cuda" else {}),
    }


def last_level_cache_bytes(device: torch.device = CPU) -> int:
    """A GPU's L2, or the largest cache a core sees; 64 MiB where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).L2_cache_size
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max((int(s.read_text().strip().rstrip("K")) << 10 for s in sizes), default=64 << 20)


def _gpu(device: torch.device) -> dict[str, object]:
    properties = torch.cuda.get_device_properties(device)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True)
    return {
        "gpu": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "driver": done.stdout.splitlines()[0] if done.returncode == 0 else "unknown",
    }


def _commit() -> str:
    if commit := os.environ.get("AIRCACHE_COMMIT"):  # sources without their history
        return commit
    git = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    done = subprocess.run(git, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
