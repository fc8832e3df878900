"""`hearth` over other kernels, changed on purpose: `python -m support.mutant MODULE.so ARGUMENTS`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np

from support.command_line import hearth

NAME = "hearth.runtime.native"


def changed_constant(module: Path, output: Path, constant: float) -> int:
    """A copy whose code has the next float32 instead of a constant; how often it was there."""
    old = np.float32(constant)
    data = module.read_bytes()
    output.write_bytes(data.replace(old.tobytes(), np.nextafter(old, np.float32(1)).tobytes()))
    return data.count(old.tobytes())


def run(module: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with these kernels."""
    command = [sys.executable, "-m", "support.mutant", str(module), *map(str, arguments)]
    tests = Path(__file__).parent.parent
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tests)


def use(module: str) -> None:
    """Load it under the native module's name, before anything asks for that."""
    spec = importlib.util.spec_from_file_location(NAME, module)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])


if __name__ == "__main__":
    use(sys.argv[1])
    sys.exit(hearth(*sys.argv[2:]))
