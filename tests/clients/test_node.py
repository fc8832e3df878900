"""The Node packages `openai`, `ollama` and `ai`, where Node has them: npm install --prefix tests/clients/node"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.serve import KEY, Served

FOLDER = Path(__file__).parent / "node"
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.skipif(
    not (FOLDER / "node_modules").exists(), reason="npm install --prefix tests/clients/node"
)
def test_the_packages_of_node(served: Served) -> None:
    assert NODE is not None
    command = [NODE, str(FOLDER / "clients.mjs"), served.url, KEY]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    checks = [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]
    assert found.returncode == 0, found.stderr
    assert len(checks) > 10
    assert [check for check in checks if check["error"]] == []
