"""What archives are served: their names on the command line, and what each says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hearth.runtime.archive import open_archive
from hearth.runtime.archive.content import content_hash
from hearth.runtime.lora.stored import adapter_names
from hearth.schemas import sections
from hearth.schemas.errors import UsageError
from hearth.schemas.manifest import Manifest, ModelKind


@dataclass(frozen=True)
class Served:
    """What is known of an archive by its name, without its weights being loaded."""

    name: str
    path: Path
    nbytes: int
    modified: datetime
    digest: str  # SHA-256 (hex) of the contents
    manifest: Manifest
    adapters: tuple[str, ...]
    chat_template: str | None
    generation_config: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The archive's own name, and `name:adapter` for each adapter in it."""
        return (self.name, *(f"{self.name}:{adapter}" for adapter in self.adapters))


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is written or replaced."""

    inode: int
    nbytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp | None:
        """None where there is no such file."""
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


def read_served(name: str, path: Path) -> Served:
    """What an archive says of itself; UsageError `arguments.kind` for a graph, ArchiveError for what is none."""
    archive = open_archive(path)
    if archive.manifest.kind is ModelKind.GRAPH:
        raise UsageError(
            "arguments.kind",
            f"{path} is a graph",
            expected="decoders and encoders",
            remedy="hearth run runs graphs",
        )
    config = archive.text(sections.GENERATION_CONFIG)
    return Served(
        name, path, archive.header.file_nbytes, _modified(path), content_hash(archive.entries.values()),
        archive.manifest, adapter_names(archive), archive.text(sections.CHAT_TEMPLATE), config,
    )  # fmt: skip


def read_files(given: Sequence[str]) -> dict[str, Path]:
    """FILE or NAME=FILE of the command line; a file's name without its ending names it.

    What has a slash before the equals sign is a path.
    """
    files: dict[str, Path] = {}
    for text in given:
        name, equals, rest = text.partition("=")
        named = equals and "/" not in name
        path = Path(rest if named else text)
        name = name if named else path.stem
        if not name or any(each in ":/?#" or each.isspace() for each in name):
            raise UsageError(
                "arguments.model_name",
                f"{name!r} as a model's name",
                expected="a word without colon, slash, question mark or hash",
                remedy="give NAME=FILE",
            )
        if name in files:
            raise UsageError(
                "arguments.model_name",
                f"two archives are called {name!r}",
                expected="a name for each",
                remedy="give NAME=FILE",
            )
        files[name] = path
    return files


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
