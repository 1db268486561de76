"""What is installed, and the scripts that install it."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import featviz

ROOT = Path(__file__).parents[1]
SCRIPTS = [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci" / "run"]

FAKE_PYTHON = """#!/usr/bin/env bash
# Stands in for Python in scripts/setup: writes down what it is asked for, makes .venv.
echo "$*" >> "$LOG"
if [ "$1 $2" = "-m venv" ]; then
  if [ "$3" = --clear ]; then rm -rf .venv; fi
  mkdir -p .venv/bin
  cp "$0" .venv/bin/python
fi
"""


@pytest.mark.slow
def test_the_wheel_is_whole_and_works_elsewhere(tmp_path: Path) -> None:
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    shutil.copytree(
        ROOT / "featviz", source / "featviz", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel"]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([*pip, *options, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"featviz-{version('featviz')}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(elsewhere)
    files = (
        path
        for path in (source / "featviz").rglob("*")
        if path.suffix in (".py", ".typed", ".c", ".h")
    )
    assert {str(path.relative_to(source)) for path in files} <= names
    assert "featviz/py.typed" in names
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    code = "import featviz; print(featviz.__file__, featviz.load('planted').name)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(elsewhere)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [str(elsewhere / "featviz" / "__init__.py"), "planted"]


def test_the_version_is_that_of_the_project() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{version("featviz")}"' in text
    assert (ROOT / "LICENSE").read_text().strip().startswith("Apache License")
    assert Path(featviz.__file__).is_relative_to(ROOT)


def test_no_file_names_a_machine_or_a_package_host() -> None:
    hosts = ["pypi" + r"\.org", "python" + "hosted", r"index[-_]url", "/sim" + "ple/"]
    places = ["/wo" + "rk/", "/ho" + "me/", "/ro" + r"ot\b", "/Us" + "ers/"]
    forbidden = re.compile("|".join([*hosts, *places]))
    folders = ("featviz", "tests", "scripts", "configs", "benchmarks", ".ci", "docs")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [ROOT / name for name in ("README.md", "pyproject.toml", ".gitignore")]
    kinds = ("", ".py", ".md", ".toml", ".yaml", ".json", ".txt", ".svg")
    texts = {path: path.read_text() for path in files if path.suffix in kinds}
    assert len(texts) > 60
    assert [str(path) for path, text in texts.items() if forbidden.search(text)] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_run(path: Path) -> None:
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert any(line.startswith('cd "$(dirname "$0")/..') for line in lines)


def test_ci_runs_the_command_of_the_readme() -> None:
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "exec scripts/test"
    assert re.search(r"^scripts/test\b", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert "scripts/check" in (ROOT / "scripts" / "test").read_text()


def _set_up(clone: Path, log: Path) -> list[str]:
    """What scripts/setup in `clone` asks Python for."""
    log.write_text("")
    environment = {**os.environ, "PYTHON": str(log.parent / "python"), "LOG": str(log)}
    subprocess.run([str(clone / "scripts" / "setup")], env=environment, check=True)
    return [line for line in log.read_text().splitlines() if not line.startswith("-c")]


def test_setup_installs_once_and_again_where_something_changed(tmp_path: Path) -> None:
    clone, moved, log = tmp_path / "clone", tmp_path / "moved", tmp_path / "log"
    (clone / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", clone / "scripts")
    (clone / "pyproject.toml").write_text("")
    os.utime(clone / "pyproject.toml", (0, 0))
    (tmp_path / "python").write_text(FAKE_PYTHON)
    (tmp_path / "python").chmod(0o755)
    install = ["-m pip install --quiet --disable-pip-version-check --editable .[dev]"]

    assert _set_up(clone, log) == ["-m venv .venv", *install]
    assert _set_up(clone, log) == []
    os.utime(clone / "pyproject.toml")  # now newer than the stamp
    os.utime(clone / ".venv" / ".featviz-installed", (1, 1))
    assert _set_up(clone, log) == ["-m pip --version", *install]
    clone.rename(moved)
    assert _set_up(moved, log) == ["-m venv --clear .venv", "-m pip --version", *install]
    os.utime(moved / "pyproject.toml", (0, 0))
    assert _set_up(moved, log) == []


def test_setup_names_a_python_that_is_too_old(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    (clone / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", clone / "scripts")
    (clone / "pyproject.toml").write_text("")
    old = tmp_path / "old"
    old.write_text('#!/usr/bin/env bash\n[ "$1" = -c ] && exit 1\necho Python 3.9.1\n')
    old.chmod(0o755)
    done = subprocess.run(
        [str(clone / "scripts" / "setup")],
        env={**os.environ, "PYTHON": str(old)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 3.9.1" in done.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("mine", ["", "COMPATIBLE"])
def test_matrix_products_do_not_depend_on_where_a_row_lies(mine: str) -> None:
    """A row of odd length begins at another offset in each slot, which MKL rounds by."""
    code = """
import torch, featviz, os
generator = torch.Generator().manual_seed(0)
weight, row = torch.randn(4, 7, generator=generator), torch.randn(7, generator=generator)
said = {tuple((row.expand(16, 7).contiguous() @ weight.T)[slot].tolist()) for slot in range(16)}
print(os.environ["MKL_CBWR"], len(said))
"""
    environment = {key: value for key, value in os.environ.items() if key != "MKL_CBWR"}
    environment |= {"MKL_CBWR": mine} if mine else {}
    asked = [sys.executable, "-c", code]
    said = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == [mine or "AUTO,STRICT", "1"]
