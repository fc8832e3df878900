"""Write the SHA-256 of archives in tests/archives that expected.json lacks: `python -m support.released`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "archives"


def record(folder: Path = FOLDER) -> list[str]:
    """The names added. What is recorded already stays as it is."""
    place = folder / "expected.json"
    known = json.loads(place.read_text())
    new = sorted(path for path in folder.glob("*.har") if path.name not in known)
    for path in new:
        known[path.name] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    place.write_text(json.dumps(known, indent=1) + "\n")
    return [path.name for path in new]


if __name__ == "__main__":
    print("\n".join(record()) or "nothing new")
