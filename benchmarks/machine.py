"""What a result was measured on, and how fast that machine can multiply and copy at best."""

import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def conditions(device: torch.device) -> dict[str, Any]:
    """Date, hardware, versions and commit, as every result file carries them.

    BENCH_COMMIT: the commit, where a copy of the files is measured that has no history.
    """
    return {
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d"),
        "hardware": {
            "device": _device_name(device),
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("featviz", "torchvision", "timm")},
            "torch": torch.__version__,
        },
        "commit": os.environ.get("BENCH_COMMIT") or _commit(),
    }


def write_result(
    benchmark: str,
    device: torch.device,
    content: dict[str, Any],
    *,
    out: Path | None,
    suffix: str = "",
) -> None:
    """Writes benchmarks/results/BENCHMARK-DATE[SUFFIX].json, or `out`, and says so."""
    result = {"benchmark": benchmark, **conditions(device), **content}
    default = Path("benchmarks/results") / f"{benchmark}-{result['date']}{suffix}.json"
    path = default if out is None else out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(laid_out(result) + "\n", encoding="utf-8")
    print(f"written to {path}")


def laid_out(content: Any) -> str:
    """JSON with a line for each value, but lists of plain values on one."""
    one_line = partial(re.sub, r"\s+", " ")
    return re.sub(
        r"\[[^\[\]{}\"]*\]", lambda found: one_line(found[0]), json.dumps(content, indent=1)
    )


def line(row: Mapping[str, Any]) -> str:
    """The numbers and words of a row for the eye, without its lists."""
    shown = {name: value for name, value in row.items() if not isinstance(value, (list, dict))}
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in shown.items()
    )


def matrix_rate(device: torch.device, dtype: torch.dtype, *, side: int = 2048) -> float:
    """The best measured rate of a square matrix product, in floating-point operations a second."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: left @ right, device) for _ in range(8))


def copy_rate(device: torch.device, *, mib: int = 256) -> float:
    """The best measured rate of a copy, in bytes a second, those read and those written."""
    source = torch.ones(mib * 2**18, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device) for _ in range(8))


def seconds(work: Any, device: torch.device) -> float:
    """Wall seconds of one call, the device's queue emptied before and after."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def restart_peak_memory(device: torch.device) -> None:
    """Peak memory counts from here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_mib(device: torch.device) -> float:
    """Since `restart_peak_memory`: the device's, or this process's resident memory on CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if not status.exists():
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (2**20 if sys.platform == "darwin" else 2**10)
    lines = status.read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    changes = _git("status", "--porcelain", "featviz", "benchmarks/*.py")
    return _git("rev-parse", "--short=12", "HEAD") + ("+changes" if changes else "")


def _git(*words: str) -> str:
    try:
        answer = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return answer.stdout.strip()
