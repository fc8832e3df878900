"""`hearth lora`: adapters are added to an archive, listed and removed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hearth.runtime.commands.terminal import emit, emit_json, size, table
from hearth.schemas.errors import UsageError
from hearth.schemas.lora import AdapterWeights

if TYPE_CHECKING:
    from hearth.runtime.lora.stored import StoredAdapter
    from hearth.schemas.lora import Lora

lora_command = typer.Typer(
    help="Add adapters (LoRA) to an archive, list and remove them.", no_args_is_help=True
)
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object")]
FileArgument = Annotated[Path, typer.Argument(help="the .har file of a decoder")]


@lora_command.command("add")
def add_command(
    file: FileArgument,
    name: Annotated[str, typer.Argument(help="what to call the adapter")],
    adapter: Annotated[Path, typer.Argument(help="a PEFT directory: config and safetensors")],
    weights: Annotated[
        str, typer.Option(help="how its matrices are stored: int8, f16 or f32")
    ] = AdapterWeights.INT8,
    as_json: JsonOption = False,
) -> None:
    """Code a PEFT adapter and append it to the archive, whose other sections stay as they are."""
    from hearth.compiler.lora.add import add_adapter
    from hearth.runtime.archive import open_archive

    if weights not in list(AdapterWeights):
        raise UsageError(
            "arguments.adapter_weights",
            f"--weights {weights}",
            expected=f"one of {', '.join(AdapterWeights)}",
        )
    lora = add_adapter(open_archive(file), name, adapter, AdapterWeights(weights))
    if as_json:
        emit_json({"file": str(file), "name": name, **_facts(lora)})
    else:
        emit(f"{file}: added {name}, {_text(lora)}\n")


@lora_command.command("list")
def list_command(file: FileArgument, as_json: JsonOption = False) -> None:
    """Show the adapters of an archive."""
    from hearth.runtime.archive import open_archive
    from hearth.runtime.lora.stored import stored_adapters

    found = stored_adapters(open_archive(file))
    if as_json:
        emit_json({"file": str(file), "adapters": [_described(each) for each in found.values()]})
    elif found:
        rows = [("adapter", "rank", "stored as", "bytes", "modules", "source")]
        for name, each in found.items():
            lora = each.lora
            shape = str(lora.rank), str(lora.weights), size(lora.data_nbytes), str(lora.modules)
            rows.append((name, *shape, lora.source))
        emit(table(rows) + "\n")
    else:
        emit(f"{file}: no adapters\n")


@lora_command.command("remove")
def remove_command(
    file: FileArgument,
    name: Annotated[str, typer.Argument(help="the adapter to remove")],
    as_json: JsonOption = False,
) -> None:
    """Take an adapter out of an archive's directory; its bytes stay in the file, unread."""
    from hearth.runtime.archive import open_archive
    from hearth.runtime.lora.stored import remove_adapter

    remove_adapter(open_archive(file), name)
    if as_json:
        emit_json({"file": str(file), "removed": name})
    else:
        emit(f"{file}: removed {name}\n")


def _described(stored: StoredAdapter) -> dict[str, Any]:
    return {"name": stored.adapter.name, "sha256": stored.adapter.sha256, **_facts(stored.lora)}


def _facts(lora: Lora) -> dict[str, Any]:
    """All but where its parts lie."""
    return {name: value for name, value in asdict(lora).items() if name != "linears"}


def _text(lora: Lora) -> str:
    return (
        f"rank {lora.rank}, {lora.modules} modules, {lora.parameters:,} parameters"
        f" in {lora.weights}, {size(lora.data_nbytes)}"
    )
