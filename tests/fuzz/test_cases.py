"""Every input that fuzzing once found ends in a result or a HearthError, in bounded time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "cases"
LIMIT_NBYTES = 1 << 30
FOUND = sorted(path for path in CASES.glob("*/*") if path.is_file())
REPLAY = """
import sys
from pathlib import Path
from fuzz.targets import TARGETS
target = TARGETS[sys.argv[1]]
for name in sys.argv[3:]:
    path = Path(sys.argv[2]) / ("case" + target.suffix)
    path.write_bytes(Path(name).read_bytes())
    print(name, flush=True)
    target.run(path)
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.parametrize("target", ["archive", "onnx"])
def test_found_cases(target: str, tmp_path: Path) -> None:
    """All in one process, whose peak memory and end are what is judged."""
    cases = [str(path) for path in FOUND if path.parent.name == target]
    if not cases:
        pytest.skip("fuzzing has found nothing in this target")
    paths = os.pathsep.join([str(CASES.parent.parent), *sys.path])
    ran = subprocess.run(
        [sys.executable, "-c", REPLAY, target, str(tmp_path), *cases],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    last = ran.stdout.split("\n")[-2:-1]
    assert ran.returncode == 0, f"{last}: {ran.stderr[-2000:]}"
    assert int(last[0]) * 1024 < LIMIT_NBYTES
