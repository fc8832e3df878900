"""`hearth regress` fails, and names the part, when something that decides results is changed on purpose; it passes when
a refactor changes nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import mutant
from support.command_line import hearth

from hearth.compiler import maker, pipeline
from hearth.compiler.check import golden as golden_maker
from hearth.compiler.frontend import huggingface
from hearth.compiler.frontend import rounded as tables
from hearth.compiler.ir.arithmetic import _EXP
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import RMSNorm
from hearth.compiler.ir.rewrite import rewrite
from hearth.compiler.lower import blocks, kv, layouts, plan
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, Pass
from hearth.compiler.quantize import rtn
from hearth.runtime import native
from hearth.runtime.archive import sections as section_stream
from hearth.runtime.text.tokenizer import Tokenizer
from hearth.runtime.verify import texts as template_vectors

ROOT = Path(__file__).parent.parent
RECIPE = f'source = "{ROOT}/models/hearthside"\ntarget = "x86-64-v3"\ncontext = 160\nkv = "int8"\n'
RECIPES = {"int4": 'weights = "int4"\n', "f32": 'weights = "f32"\n'}
Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recipes with their goldens."""
    place = tmp_path_factory.mktemp("recipes")
    for name, text in RECIPES.items():
        (place / f"{name}.toml").write_text(RECIPE + text)
    assert hearth("regress", place, "--update") == 0
    return place


def changed_parts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, set[str]]]:
    """Exit code, and the parts that changed by recipe."""
    code = hearth("regress", folder, "--json")
    report = json.loads(capsys.readouterr().out)
    broken = [each for each in report["recipes"] if each["status"] == "broken"]
    assert not broken, broken[0]["traceback"] or broken[0]["problem"]
    return code, {each["name"]: set(each["parts"]) for each in report["recipes"]}


@dataclass(frozen=True)
class Mutation:
    """What is changed, and the parts that must be named for the int4 recipe, and for f32 where that differs."""

    patch: Patch
    parts: frozenset[str]
    floats: frozenset[str] | None = None


def of(patch: Patch, parts: str, floats: str | None = None) -> Mutation:
    split = [None if each is None else frozenset(each.split(", ")) for each in (parts, floats)]
    assert split[0] is not None
    return Mutation(patch, split[0], split[1])


def with_passes(change: Callable[[tuple[Pass, ...]], tuple[Pass, ...]]) -> Patch:
    return lambda patch: patch.setattr(pipeline, "FLOAT_PASSES", change(FLOAT_PASSES))


def without(name: str) -> Patch:
    return with_passes(lambda passes: tuple(each for each in passes if each.name != name))


def other_eps(graph: Graph) -> Graph:
    """A pass that writes another epsilon into the norms."""

    def change(op: Any) -> Any:
        return replace(op, eps=1e-4) if isinstance(op, RMSNorm) and op.eps != 1e-4 else None

    return rewrite(graph, change)


def quantiser_off_by_one(patch: pytest.MonkeyPatch) -> None:
    """One code of every weight."""
    right = rtn.rtn

    def wrong(*arguments: Any, **options: Any) -> Any:
        rows = right(*arguments, **options)
        rows.codes[0, 0] ^= 1
        return rows

    patch.setattr("hearth.compiler.quantize.coding.rtn", wrong)


def another_tokenizer(patch: pytest.MonkeyPatch) -> None:
    """The file's bytes, as if the source's tokenizer were another."""
    right = huggingface.read_assets

    def wrong(*arguments: Any, **options: Any) -> Any:
        assets = right(*arguments, **options)
        data = json.loads(assets.tokenizer_json)
        data["normalizer"] = {"type": "Lowercase"}
        return replace(assets, tokenizer_json=json.dumps(data).encode())

    patch.setattr(huggingface, "read_assets", wrong)


def tokenizer_code(patch: pytest.MonkeyPatch) -> None:
    """The runtime's tokenizer loses the last token of long texts."""
    right = Tokenizer.encode

    def wrong(self: Tokenizer, text: str, *arguments: Any, **options: Any) -> list[int]:
        ids = right(self, text, *arguments, **options)
        return ids[:-1] if len(text) > 60 else ids

    patch.setattr(Tokenizer, "encode", wrong)


def int4_nibbles(patch: pytest.MonkeyPatch) -> None:
    """Padding and codes of an int4 block packed with another offset: a layout changed on one side."""
    right = layouts.Int4Blocks._blocks

    def wrong(self: layouts.Int4Blocks, *arguments: Any) -> Any:
        return right(self, *arguments) ^ np.uint8(1)

    patch.setattr(layouts.Int4Blocks, "_blocks", wrong)


def section_alignment(patch: pytest.MonkeyPatch) -> None:
    """Weights on a cache line only."""
    patch.setattr(section_stream, "alignment", lambda kind: 256)
    patch.setattr("hearth.runtime.archive.layout.alignment", lambda kind: 256)


def kv_alignment(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kv, "ALIGN", 1 << 14)


def no_reuse(patch: pytest.MonkeyPatch) -> None:
    """Every buffer of the arena has bytes of its own."""
    patch.setattr(plan.LiveRange, "meets", lambda self, other: True)


def rope_table(patch: pytest.MonkeyPatch) -> None:
    """One bit of one value in 100."""
    right = tables.Function.__call__

    def wrong(self: Any, arguments: Any) -> Any:
        found = right(self, arguments)
        found[::100] = np.nextafter(found[::100], np.float32(2))
        return found

    patch.setattr(tables.Function, "__call__", wrong)


def template_clock(patch: pytest.MonkeyPatch) -> None:
    """The chat template's text gains a line."""
    right = template_vectors.chat_case

    def wrong(template: Any, *arguments: Any) -> Any:
        case = right(template, *arguments)
        return replace(case, text=case.text + "\n")

    patch.setattr(golden_maker, "chat_case", wrong)


MUTATIONS: Mapping[str, Mutation] = {
    "a pass left out": of(without("fuse-residual"), "program"),
    "a pass left out that merges weights": of(
        without("merge-linears"), "program, tensors"
    ),
    "a pass that changes an epsilon": of(
        with_passes(lambda passes: (*passes, Pass("eps", other_eps))),
        "golden, program",
    ),
    "the quantiser": of(quantiser_off_by_one, "tensors, golden", ""),
    "the tokenizer's file": of(another_tokenizer, "golden, tokenizer"),
    "the tokenizer's code": of(tokenizer_code, "golden"),
    "the chat template's code": of(template_clock, "golden"),
    "a packed layout": of(int4_nibbles, "tensors, golden", ""),
    "the format's alignment": of(section_alignment, "places of sections"),
    "the layout of the KV cache": of(kv_alignment, "kv_layout"),
    "the memory plan": of(no_reuse, "program"),
    "a table": of(rope_table, "tensors, golden"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_change_fails_and_its_part_is_named(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mutation = MUTATIONS[name]
    mutation.patch(monkeypatch)
    code, parts = changed_parts(folder, capsys)
    assert code == 8
    assert mutation.parts <= parts["int4"]
    floats = mutation.parts if mutation.floats is None else mutation.floats
    assert floats - {""} <= parts["f32"]
    if floats == {""}:
        assert not parts["f32"], "f32 weights have nothing to do with it"


def doubled(name: str) -> Patch:
    """A pass that runs twice: the second time there is nothing left for it."""
    return with_passes(
        lambda passes: tuple(
            again for each in passes for again in ([each, each] if each.name == name else [each])
        )
    )


def rewritten(name: str) -> Patch:
    """The same pass behind a function of another name."""

    def wrap(each: Pass) -> Pass:
        return replace(each, run=lambda graph: each.run(graph)) if each.name == name else each

    return with_passes(lambda passes: tuple(map(wrap, passes)))


def smaller_batches(patch: pytest.MonkeyPatch) -> None:
    """Weights are packed and quantised in other portions."""
    patch.setattr(blocks, "BATCH_NBYTES", 1 << 14)


def one_thread(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("hearth.compiler.regress.command.checked_threads", lambda threads: 1)


def portable_kernels(patch: pytest.MonkeyPatch) -> None:
    """The goldens were computed by the best instruction set there is."""
    right = golden_maker.any_of
    patch.setattr(
        golden_maker, "any_of", lambda archive, threads: right(archive, threads, "portable")
    )


def numpy_quantiser(patch: pytest.MonkeyPatch) -> None:
    """The quantiser's definition in numpy instead of the native one."""

    def reference(weights: Any, scheme: Any, threads: int = 0) -> Any:
        weights = np.ascontiguousarray(weights, np.float32)
        wide = scheme.bits == 8
        return rtn.reference_int8(weights) if wide else rtn.reference_int4(weights, scheme.group)

    patch.setattr("hearth.compiler.quantize.coding.rtn", reference)


REFACTORS: Mapping[str, Patch] = {
    "nothing": lambda patch: None,
    "a pass that runs twice": doubled("dead"),
    "a pass behind another function": rewritten("fold-norm-gain"),
    "two passes that do not meet, swapped": with_passes(
        lambda passes: (*passes[:4], passes[5], passes[4], *passes[6:])
    ),
    "passes in a list": lambda patch: patch.setattr(
        maker, "QUANTISED_PASSES", list(QUANTISED_PASSES)
    ),
    "smaller batches": smaller_batches,
    "one thread": one_thread,
    "portable kernels": portable_kernels,
    "the quantiser in numpy": numpy_quantiser,
}


@pytest.mark.parametrize("name", REFACTORS)
def test_a_refactor_that_changes_nothing_passes(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    REFACTORS[name](monkeypatch)
    assert changed_parts(folder, capsys) == (0, {"int4": set(), "f32": set()})


@pytest.mark.parametrize("place", [3, 4])  # the largest that exp alone has
def test_a_kernel_wrong_in_the_last_bit_of_one_constant_fails(
    place: int, folder: Path, tmp_path: Path
) -> None:
    """The polynomial of exp, in attention and SiLU, of every instruction set."""
    module = Path(str(native.__file__))
    copy = tmp_path / module.name
    assert mutant.changed_constant(module, copy, float(_EXP[place])) > 0
    found = mutant.run(copy, "regress", folder)
    assert found.returncode == 8, found.stdout + found.stderr
    assert "other golden" in found.stdout


def test_a_copy_of_the_kernels_passes(folder: Path, tmp_path: Path) -> None:
    """What the test above relies on."""
    copy = tmp_path / Path(str(native.__file__)).name
    copy.write_bytes(Path(str(native.__file__)).read_bytes())
    found = mutant.run(copy, "regress", folder)
    assert found.returncode == 0, found.stdout + found.stderr


def process(folder: Path, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """`hearth regress` in a process of its own, some lines before anything of hearth is imported."""
    code = f"{before}\nimport sys\nfrom support.command_line import hearth\n"
    code += f"sys.exit(hearth('regress', {str(folder)!r}))"
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=300, cwd=ROOT / "tests",
        env={**os.environ, **environment},
    )  # fmt: skip


def test_another_version_of_the_format_fails(folder: Path) -> None:
    found = process(folder, "import hearth.schemas.sections as s; s.FORMAT_VERSION += 1")
    assert found.returncode == 8, found.stdout + found.stderr
    assert "other format, manifest" in found.stdout


def test_another_order_of_the_fields_of_a_record_fails(folder: Path) -> None:
    """The bytes of every program."""
    change = "import hearth.schemas.codec as c; c.POSITIONAL -= {c.Span}"
    found = process(folder, change)
    assert found.returncode == 8, found.stdout + found.stderr
    assert "kv_layout" in found.stdout


# Other CPUs, as numpy, OpenBLAS and the C library see them.
MACHINES = {
    "numpy without vectors": {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"},
    "OpenBLAS for Nehalem": {"OPENBLAS_CORETYPE": "Nehalem"},
    "one thread of OpenBLAS": {"OPENBLAS_NUM_THREADS": "1"},
    "two threads of OpenBLAS": {"OPENBLAS_NUM_THREADS": "2"},
    "a C library without FMA": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F"},
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_goldens_are_those_of_any_machine(name: str, folder: Path) -> None:
    found = process(folder, **MACHINES[name])
    assert found.returncode == 0, found.stdout + found.stderr
