"""Every CUDA kernel compiles for a GPU, also where there is none."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[1]


def test_every_kernel_compiles() -> None:
    environment = {name: word for name, word in os.environ.items() if name != "TRITON_INTERPRET"}
    answer = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "compiling.py")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert answer.returncode == 0, answer.stderr
    assert set(answer.stdout.split()) == set(launched())


def launched() -> Iterator[str]:
    """Kernels, by module and name: functions that ask which program they are."""
    for path in (ROOT / "featviz" / "kernels" / "cuda").glob("*.py"):
        for each in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(each, ast.FunctionDef) and "program_id" in ast.dump(each):
                yield f"featviz.kernels.cuda.{path.stem}.{each.name}"
