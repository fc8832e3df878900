"""`hearth inspect`: what is in an archive, what it needs to run, and which kernels this CPU would choose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hearth.runtime.commands.arguments import checked
from hearth.runtime.commands.inspect_graph import describe_graph, graph_text
from hearth.runtime.commands.terminal import emit, emit_json, size, table
from hearth.runtime.options import read_options
from hearth.schemas.errors import ArchiveError, ResourceError
from hearth.schemas.manifest import ModelKind

if TYPE_CHECKING:
    from hearth.runtime.archive import Archive
    from hearth.schemas.program import Entry, Port


def inspect_command(
    file: Annotated[Path, typer.Argument(help="the .har file")],
    check: Annotated[
        str, typer.Option(help="structure, or full: verify the weights' hash, too")
    ] = "structure",
    isa: Annotated[
        str | None, typer.Option(help="show the kernels for this instruction set")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Show what an archive holds: sections, sizes, bits per weight, memory, kernels."""
    from hearth.runtime.archive import open_archive

    archive = open_archive(file, checked(check))
    facts = describe(archive) | {"kernels": kernels(archive, read_options(1, isa).isa)}
    if as_json:
        emit_json(facts)
    else:
        emit(as_text(facts))


def describe(archive: Archive) -> dict[str, Any]:
    """Everything that does not depend on this machine, as plain data."""
    from hearth.runtime.archive.content import content_hash

    manifest, program = archive.manifest, archive.program
    return {
        "file": archive.path.name,
        "file_nbytes": archive.header.file_nbytes,
        "manifest": asdict(manifest),
        "fingerprint": archive.fingerprint,
        "content_hash": content_hash(archive.directory.sections),
        "signed_by": signer(archive),
        "prompt": prompt(archive),
        "sections": [
            {
                "name": section.name,
                "kind": str(section.kind),
                "offset": section.offset,
                "nbytes": section.nbytes,
                "sha256": section.sha256.hex(),
            }
            for section in archive.directory.sections
        ],
        "weights": weights(archive),
        "entries": {name: entry(part) for name, part in program.entries.items()},
        "memory": {
            "weights_nbytes": program.weights_nbytes,
            "arena_nbytes": program.arena_nbytes,
            "io_nbytes": program.io_nbytes,
            "kv_nbytes": program.kv_nbytes,
            "kv_nbytes_per_position": program.kv_nbytes / max(manifest.context, 1),
        },
        "adapters": adapters(archive),
        **_graph(archive),
    }


def adapters(archive: Archive) -> list[dict[str, Any]]:
    """What `hearth lora list` says, but for the hashes."""
    from hearth.runtime.lora.stored import stored_adapters

    return [
        {
            "name": name,
            "rank": each.lora.rank,
            "weights": str(each.lora.weights),
            "nbytes": each.lora.data_nbytes,
            "modules": each.lora.modules,
            "source": each.lora.source,
        }
        for name, each in stored_adapters(archive).items()
    ]


def prompt(archive: Archive) -> dict[str, Any] | None:
    """The prompt compiled into it: its text, tokens, and bytes of keys and values."""
    from hearth.schemas import sections
    from hearth.schemas.codec import loads
    from hearth.schemas.prompt import Prompt

    if sections.PROMPT not in archive.entries:
        return None
    where = str(archive.path)
    found = loads(Prompt, archive.section(sections.PROMPT), sections.PROMPT, where)
    nbytes = archive.section(sections.PROMPT_KV).nbytes
    return {"text": found.text, "tokens": len(found.tokens), "nbytes": nbytes, "isa": found.isa}


def signer(archive: Archive) -> str | None:
    """The public key (hex) that the archive says has signed it; `hearth verify --key` checks that."""
    from hearth.runtime.signing import read_signature

    found = read_signature(archive)
    return None if found is None else found.key


def _graph(archive: Archive) -> dict[str, Any]:
    """What a general graph has besides."""
    graph = archive.manifest.kind is ModelKind.GRAPH
    return {"graph": describe_graph(archive)} if graph else {}


def weights(archive: Archive) -> dict[str, Any]:
    """Parameters, and what their codes, multipliers and scales take."""
    tensors = archive.weights_index.tensors
    parameters = sum(tensor.parameters for tensor in tensors)
    nbytes = sum(tensor.nbytes for tensor in tensors if tensor.parameters)
    layouts = Counter[str]()
    for tensor in tensors:
        name = "plain f32" if tensor.layout is None else tensor.layout.name.lower()
        layouts[name] += tensor.nbytes
    return {
        "tensors": len(tensors),
        "parameters": parameters,
        "nbytes": nbytes,
        "bits_per_weight": 8 * nbytes / parameters if parameters else None,
        "nbytes_by_layout": dict(layouts),
    }


def entry(part: Entry) -> dict[str, Any]:
    """One entry's commands by name and the rows it takes."""
    return {
        "inputs": {port.name: port_shape(port) for port in part.inputs},
        "outputs": {port.name: port_shape(port) for port in part.outputs},
        "commands": len(part.commands),
        "by_op": dict(Counter(command.op for command in part.commands)),
        "max_rows": {str(rows): count for rows, count in part.max_rows.items()},
        "arena_nbytes": part.arena_nbytes,
    }


def port_shape(port: Port) -> str:
    """'i32[T]', 'f32[1, 384]'"""
    return f"f32[{port.rows}, {port.columns}]" if port.columns else f"i32[{port.rows}]"


def kernels(archive: Archive, isa: str | None) -> dict[str, Any]:
    """The kernels each entry would run here; why not, where it would not."""
    from hearth.runtime.binding import bind, checked_isa

    try:
        engine, numbers = bind(archive, 1, checked_isa(isa))
    except (ArchiveError, ResourceError) as error:
        return {"error": str(error)}
    chosen = {name: dict(Counter(engine.kernel_names(number))) for name, number in numbers.items()}
    return {"isa": engine.isa, "entries": chosen}


def as_text(facts: Mapping[str, Any]) -> str:
    """The same for people."""
    blocks = [_head(facts), _sections(facts)]
    if facts["adapters"]:
        blocks.append(_adapters(facts))
    if "graph" in facts:
        blocks.append(graph_text(facts["graph"]))
    if facts["entries"]:
        blocks += [_entries(facts), _memory(facts), _kernels(facts)]
    return "\n\n".join(blocks) + "\n"


def _head(facts: Mapping[str, Any]) -> str:
    manifest, held = facts["manifest"], facts["weights"]
    bits = held["bits_per_weight"]
    rows = [
        ("file", f"{facts['file']}, {size(facts['file_nbytes'])}"),
        ("made by", f"hearth {manifest['hearth']}, format {manifest['format']}"),
        ("source", f"{manifest['source']} ({manifest['family']})"),
        ("fingerprint", facts["fingerprint"]),
        ("content", facts["content_hash"]),
        ("signed by", facts["signed_by"] or "nobody"),
        *_kind_rows(manifest),
        *_prompt_rows(facts["prompt"]),
        ("schemes", ", ".join(f"{name} {value}" for name, value in manifest["schemes"].items())),
        ("targets", ", ".join(manifest["targets"])),
        ("parameters", f"{held['parameters']:,} in {held['tensors']} tensors"),
        (
            "bits/weight",
            "-" if bits is None else f"{bits:.3f} (with scales: {size(held['nbytes'])})",
        ),
        *((f"  {name}", size(nbytes)) for name, nbytes in held["nbytes_by_layout"].items()),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def _prompt_rows(found: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if found is not None:
        only = "" if found["isa"] is None else f", used with {found['isa']} alone"
        yield (
            "prompt",
            f"{found['tokens']} tokens, {size(found['nbytes'])}{only}: {found['text']!r:.60}",
        )


def _kind_rows(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a decoder, an encoder and a graph each have to say."""
    kind, dims, embedding = manifest["kind"], manifest["dims"], manifest["embedding"]
    yield "kind", str(kind)
    if dims is not None:
        letters = zip(["L", "E", "H", "Hkv", "D", "F", "V"], dims.values(), strict=True)
        yield "model", ", ".join(f"{letter} {value}" for letter, value in letters)
    if embedding is not None:
        length = "of length 1" if embedding["normalised"] else "not normalised"
        pooling = embedding["pooling"]
        each = "one a token" if pooling == "none" else f"pooling {pooling}"
        yield "vectors", f"f32[{embedding['columns']}], {each}, {length}"
    if kind == "encoder":
        yield "context", f"{manifest['context']} tokens, all at once; longer texts are cut"
    elif manifest["context"]:
        positions, chunk = manifest["context"], manifest["chunk"]
        yield "context", f"{positions} positions, prefill in chunks of {chunk}"


def _sections(facts: Mapping[str, Any]) -> str:
    rows = [("section", "kind", "offset", "bytes", "sha256")]
    for part in facts["sections"]:
        place = f"{part['offset']:,}", f"{part['nbytes']:,}"
        rows.append((part["name"], part["kind"], *place, part["sha256"][:16]))
    return table(rows)


def _adapters(facts: Mapping[str, Any]) -> str:
    heads = ("adapter", "rank", "stored as", "bytes", "modules", "source")
    return table([heads, *(tuple(map(str, each.values())) for each in facts["adapters"])])


def _entries(facts: Mapping[str, Any]) -> str:
    lines = []
    for name, part in facts["entries"].items():
        limits = ", ".join(f"{rows} <= {count}" for rows, count in part["max_rows"].items())
        ops = ", ".join(f"{count} {op}" for op, count in part["by_op"].items())
        inputs = ", ".join(f"{port} {shape}" for port, shape in part["inputs"].items())
        outputs = ", ".join(f"{port} {shape}" for port, shape in part["outputs"].items())
        lines.append(f"entry {name}: {inputs} -> {outputs} ({limits})")
        lines.append(f"  {part['commands']} commands: {ops}")
    return "\n".join(lines)


def _memory(facts: Mapping[str, Any]) -> str:
    memory = facts["memory"]
    whole = facts["manifest"]["kind"] == ModelKind.ENCODER
    kv = ("kv of a text", "  per token") if whole else ("kv of a session", "  per position")
    names = ("weights (mapped)", "arena", "io", *kv)
    return table((name, size(value)) for name, value in zip(names, memory.values(), strict=True))


def _kernels(facts: Mapping[str, Any]) -> str:
    found = facts["kernels"]
    if "error" in found:
        return f"kernels: none here: {found['error']}"
    lines = [f"kernels on this CPU ({found['isa']})"]
    for name, counts in found["entries"].items():
        lines += [
            f"  {name}",
            table((f"    {kernel}", str(count)) for kernel, count in counts.items()),
        ]
    return "\n".join(lines)
