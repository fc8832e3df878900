"""The JSON Schemas and the typed mirrors accept the same data and refuse the same data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import archives
from support.mutations import calm, junk, mutated

from hearth.schemas.codec import decode, encode
from hearth.schemas.errors import ArchiveError
from hearth.schemas.golden import Golden
from hearth.schemas.graph import Plan
from hearth.schemas.kv_layout import KVLayout
from hearth.schemas.manifest import Manifest
from hearth.schemas.program import Program
from hearth.schemas.prompt import Prompt
from hearth.schemas.provenance import Provenance
from hearth.schemas.recipe import Recipe, with_defaults
from hearth.schemas.signature import Signature
from hearth.schemas.validation import NAMES, problems, schema
from hearth.schemas.weights_index import WeightsIndex

jsonschema = pytest.importorskip("jsonschema")

COUNT = st.integers(0, 2**63 - 1)
TEXT = st.text(max_size=8)
COUNTS = st.lists(COUNT, max_size=3)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
OPERAND = st.tuples(st.integers(0, 3), COUNT, COUNT, COUNT, st.integers(-1, 2**63 - 1)).map(list)
PORT = st.fixed_dictionaries(
    {
        "name": TEXT,
        "rows": COUNT | st.sampled_from(["T", "R"]),
        "columns": COUNT,
        "operand": OPERAND,
    }
)
COMMAND = st.tuples(
    TEXT, COUNT | st.sampled_from(["T", "R"]), st.lists(st.none() | OPERAND, max_size=3), COUNTS,
    st.lists(FLOAT, max_size=2),
).map(list)  # fmt: skip
FLOATS = st.lists(FLOAT, max_size=2)
GRAPH_PORT = st.fixed_dictionaries(
    {"name": TEXT, "type": TEXT, "shape": st.none() | st.lists(COUNT | TEXT, max_size=3)}
)
NUMBERS = st.fixed_dictionaries({"shape": COUNTS, "sha256": TEXT, "first": FLOATS})
SPAN = st.tuples(COUNT, COUNT).map(list)
HALF = st.fixed_dictionaries({"codes": SPAN, "scales": st.none() | SPAN})


def record(names: str, value: st.SearchStrategy[Any], **others: Any) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({**dict.fromkeys(names.split(), value), **others})


CALIBRATION = record("sha256 ranges", TEXT, windows=COUNT, context=COUNT, tokens=COUNT)

# written from the format page, not from the type hints
VALID: Mapping[str, st.SearchStrategy[Any]] = {
    "manifest": record(
        "context chunk parameters format", COUNT, eos=COUNTS, bos=st.none() | COUNT,
        kind=st.sampled_from(["decoder", "encoder", "graph"]),
        dims=st.none() | record("layers hidden heads kv_heads head_dim ffn vocab", COUNT),
        embedding=st.none() | record("columns", COUNT, pooling=TEXT, normalised=st.booleans()),
        schemes=record("weights embeddings activations kv", TEXT),
        **dict.fromkeys(("hearth", "family", "source", "fingerprint"), TEXT),
        **dict.fromkeys(("targets", "entries"), st.lists(TEXT, max_size=2)),
    ),
    "program": record(
        "weights_nbytes kv_nbytes io_nbytes", COUNT,
        entries=st.dictionaries(
            TEXT,
            record(
                "inputs outputs", st.lists(PORT, max_size=2), commands=st.lists(COMMAND, max_size=3),
                given=COUNTS, max_rows=st.dictionaries(st.sampled_from(["T", "R"]), COUNT), arena_nbytes=COUNT,
            ),
            max_size=2,
        ),
    ),
    "kv_layout": record(
        "nbytes", COUNT,
        layers=st.lists(
            record("k v", HALF, heads=COUNT, head_dim=COUNT, context=COUNT, scheme=st.integers(0, 2)),
            max_size=3,
        ),
    ),
    "weights_index": record(
        "tensors",
        st.lists(
            st.tuples(
                TEXT, COUNT, COUNT, st.none() | st.integers(0, 5), COUNTS, COUNT, st.booleans(), COUNT,
            ).map(list),
            max_size=3,
        ),
    ),
    "graph": record(
        "inputs outputs", st.lists(GRAPH_PORT, max_size=2),
        steps=st.lists(
            record(
                "inputs outputs", st.lists(TEXT, max_size=2), engine=st.sampled_from(["onnx", "native"]),
                run=TEXT, tensors=COUNTS,
            ),
            max_size=2,
        ),
        tensors=st.lists(record("dtype offset nbytes", COUNT, name=TEXT, shape=COUNTS), max_size=2),
        operators=st.lists(record("step count", COUNT, op=TEXT, reason=TEXT), max_size=2),
        reasons=st.lists(TEXT, max_size=2),
    ),
    "golden": record(
        "", COUNT,
        tokens=st.lists(
            record(
                "ids continuation", COUNTS, logits=TEXT, continued=TEXT,
                best=st.lists(record("id", COUNT, logit=FLOAT), max_size=2),
            ),
            max_size=2,
        ),
        vectors=st.lists(record("ids types", COUNTS, embedding=NUMBERS, hidden=NUMBERS), max_size=2),
        graphs=st.lists(
            record(
                "seed", COUNT, tolerance=st.floats(0, 1),
                inputs=st.dictionaries(TEXT, record("shape", COUNTS, dtype=TEXT), max_size=2),
                outputs=st.dictionaries(
                    TEXT, record("shape", COUNTS, dtype=TEXT, sha256=TEXT, values=FLOATS, largest=FLOAT),
                    max_size=2,
                ),
            ),
            max_size=2,
        ),
        texts=st.lists(record("ids", COUNTS, text=TEXT, decoded=TEXT), max_size=2),
        chats=st.lists(
            record(
                "ids", COUNTS, turns=st.lists(record("role content", TEXT), max_size=2), text=TEXT,
                add_generation_prompt=st.booleans(), error=TEXT,
            ),
            max_size=2,
        ),
    ),
    "provenance": record(
        "hearth source fingerprint", TEXT, packages=st.dictionaries(TEXT, TEXT, max_size=2),
        files=st.lists(record("name sha256", TEXT, nbytes=COUNT), max_size=2),
        recipe=st.dictionaries(TEXT, TEXT | COUNT | FLOAT | st.booleans() | st.none(), max_size=3),
        skipped_passes=st.lists(TEXT, max_size=2), calibration=st.none() | CALIBRATION,
        arena=st.dictionaries(TEXT, record("nbytes lower_bound", COUNT), max_size=2),
        sections=st.dictionaries(TEXT, TEXT, max_size=2),
    ),
    "prompt": record("text layout", TEXT, tokens=st.lists(st.integers(0, 2**63 - 1), max_size=3), isa=st.none() | TEXT),
    "signature": record("key signature", TEXT, algorithm=st.just("ed25519")),
    "recipe": record(
        "source output target", TEXT,
        weights=st.sampled_from(["f32", "f16", "int8", "int4", "int2", "nf4", "lut6"]),
        embeddings=st.sampled_from(["f32", "f16", "int8", "int4", "int5", None]),
        group_size=st.sampled_from([32, 64, 128]),
        activations=st.sampled_from(["none", "dynamic", "static", "auto", None]),
        kv=st.sampled_from(["f32", "f16", "int8", "int8-static"]),
        context=st.none() | st.integers(1, 2**24), method=TEXT, tensors=st.dictionaries(TEXT, TEXT, max_size=2),
        calibration=st.none() | TEXT, work=st.none() | TEXT, calibration_windows=st.integers(1, 2**20),
        prompt_cache=st.none() | TEXT,
        calibration_context=st.integers(2, 2**24),
        calibration_range=st.sampled_from(["minmax", "percentile", "least-squares"]),
        pooling=st.sampled_from(["mean", "cls", "last", "max", "none", None]),
        gate=st.fixed_dictionaries(
            {},
            optional={
                "max_bits": st.none() | st.floats(1, 32),
                **dict.fromkeys(("max_error", "max_kld", "max_ppl_increase"), st.none() | st.floats(0, 1e9)),
                "min_top1": st.none() | st.floats(0, 1),
            },
        ),
    ),
}  # fmt: skip
MIRRORS: Mapping[str, type] = {
    "graph": Plan, "golden": Golden, "prompt": Prompt, "provenance": Provenance, "signature": Signature,
    "manifest": Manifest, "program": Program, "kv_layout": KVLayout, "recipe": Recipe,
    "weights_index": WeightsIndex,
}  # fmt: skip
EXAMPLES: Mapping[str, Any] = {
    "graph": archives.plan(), "golden": archives.golden(), "provenance": archives.provenance(),
    "signature": Signature("ed25519", "ab", "cd"), "prompt": Prompt("Be brief.", (1, 2), "ab", None),
    "manifest": archives.manifest(), "program": archives.program(), "kv_layout": archives.kv_layout(),
    "weights_index": archives.weights_index(),
    "recipe": Recipe("in", "out", context=9),
}  # fmt: skip
each = pytest.mark.parametrize("name", NAMES)


def mirror_accepts(name: str, data: Any) -> bool:
    if name == "recipe" and isinstance(data, dict):
        data = with_defaults(data)
    try:
        decode(MIRRORS[name], data, name)
    except ArchiveError:
        return False
    return True


def agree(name: str, data: Any) -> bool:
    """Whether both accept, after making sure that they agree."""
    found = problems(name, data)
    assert mirror_accepts(name, data) == (not found), [problem.message for problem in found]
    return not found


@each
def test_the_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))
    assert set(MIRRORS) == set(NAMES) == set(VALID)


@each
def test_examples_are_accepted(name: str) -> None:
    assert agree(name, encode(EXAMPLES[name]))


@each
def test_whatever_the_page_allows_is_accepted(name: str) -> None:
    @calm
    @given(VALID[name])
    def check(data: Any) -> None:
        assert agree(name, data)

    check()


@each
def test_both_refuse_the_same(name: str) -> None:
    @settings(calm, max_examples=200)
    @given(mutated(complete(name), binary=False))
    def check(data: Any) -> None:
        agree(name, data)

    check()


@each
def test_both_refuse_anything_else(name: str) -> None:
    @calm
    @given(junk(binary=False))
    def check(data: Any) -> None:
        assert not agree(name, data)

    check()


@each
def test_each_record_says_all_its_fields(name: str) -> None:
    """No object of a schema is open by omission."""
    for node in nodes(schema(name)):
        if node.get("type") == "object":
            assert "additionalProperties" in node, node
        if "prefixItems" in node:
            assert node["minItems"] == node["maxItems"] == len(node["prefixItems"])
            assert node["items"] is False


def nodes(value: Any) -> list[dict[str, Any]]:
    """Every map inside a schema."""
    inner = (
        list(value.values())
        if isinstance(value, dict)
        else value
        if isinstance(value, list)
        else []
    )
    found = [node for item in inner for node in nodes(item)]
    return [value, *found] if isinstance(value, dict) else found


def complete(name: str) -> Any:
    """An example to change. A recipe may leave out what has a default, the mirror takes it whole."""
    data = encode(EXAMPLES[name])
    if name == "recipe":
        return {
            key: data[key]
            for key in ("source", "output", "context", "weights", "group_size", "gate")
        }
    return data
