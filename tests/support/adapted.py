"""The demo model with adapters."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hearth.compiler.lora.add import add_adapter
from hearth.runtime.archive import open_archive
from support.lora import Peft, write_peft

if TYPE_CHECKING:
    from conftest import Archives


def with_adapters(archives: Archives, folder: Path, seeds: dict[str, int]) -> Path:
    """An archive of its own in the folder, with random adapters of these seeds."""
    plain = archives("hearthside", weights="int4", kv="int8", context=256)
    path = Path(shutil.copy(plain, folder / "adapted.har"))
    for name, seed in seeds.items():
        peft = Peft(seed=seed, spread=1.0)
        made = write_peft(folder / name, archives.checkpoint("hearthside"), peft)
        add_adapter(open_archive(path), name, made)
    return path
