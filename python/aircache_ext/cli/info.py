"""What was built, and what is here to run it on."""

import importlib.metadata
import platform
from pathlib import Path

import torch

import aircache_ext


def text() -> str:
    """A table for people, and for bug reports."""
    build = aircache_ext.build_info()
    architectures = ", ".join(f"sm_{name}" for name in build["cuda_architectures"])
    lines = {
        "aircache_ext": f"{build['version']} ({build['build_type']}, {build['compiler']})",
        "processor": processor(),
        "CPU kernels": f"{', '.join(build['cpu_isas_built'])}; in use: {build['cpu_isa']}",
        "CUDA kernels": architectures or "not built",
        "torch": f"{torch.__version__} (built for {build['torch_target']} or newer)",
        "transformers": _version("transformers"),
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
        "GPUs": "; ".join(_gpus()) or "none that torch can use",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


def processor() -> str:
    """Its name, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed; aircache_ext.hf needs 5.4 or newer"


def _gpus() -> list[str]:
    found = []
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        found.append(f"{gpu.name}, sm_{gpu.major}{gpu.minor}, {gpu.total_memory / 2**30:.0f} GiB")
    return found
