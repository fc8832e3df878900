"""The archives that stay when a format version is released: `python -m support.released` makes and records them.

What is recorded already stays as it is.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from hearth.compiler.job import options
from hearth.compiler.pipeline import compile_model
from hearth.schemas.recipe import make_recipe
from hearth.schemas.sections import FORMAT_VERSION
from support import checkpoints
from support.encoders import write_encoder

FOLDER = Path(__file__).parent.parent / "archives"
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def decoder(directory: Path) -> Path:
    """A random Qwen2 of two layers over printable ASCII."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 97, "sliding_window": None}
    checkpoints.write_checkpoint(directory, {**checkpoints.QWEN2, **sizes})
    vocab = {"<s>": 0, "</s>": 1, **{chr(code): code - 30 for code in range(32, 127)}}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": 1}))
    return directory


def graph(directory: Path) -> Path:
    """y = sorted tokens of erf(x): nothing that a rule raises."""
    directory.mkdir()
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    three = helper.make_tensor("three", TensorProto.INT64, [1], [3])
    nodes = [
        helper.make_node("Erf", ["x"], ["e"]),
        helper.make_node("TopK", ["e", "three"], ["y", "places"], axis=1),
    ]
    made = helper.make_graph(nodes, "tiny", [x], [y], [three])
    path = directory / "tiny.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)]), str(path))
    return path


# name: the source, and the recipe
ARCHIVES: Mapping[str, tuple[Callable[[Path], Path], Mapping[str, Any]]] = {
    "decoder-int4": (decoder, {"weights": "int4", "context": 64}),
    "decoder-f16": (decoder, {"weights": "f16", "kv": "f16", "activations": "none", "context": 64}),
    "encoder-int8": (write_encoder, {"weights": "int8", "pooling": "mean"}),
    "graph": (graph, {"weights": "f32"}),
}


def make(folder: Path) -> None:
    """An archive of each kind in the format version of now, where there is none."""
    for name, (source, recipe) in ARCHIVES.items():
        output = folder / f"v{FORMAT_VERSION}-{name}.har"
        if not output.exists():
            with tempfile.TemporaryDirectory() as scratch:
                values = {"source": "s", "output": "o", "target": "x86-64-v3", **recipe}
                wanted = options(make_recipe(values), frozenset())
                compile_model(source(Path(scratch) / "source"), output, wanted)


def record(folder: Path) -> list[str]:
    """Adds the SHA-256 of archives that expected.json lacks; their names."""
    place = folder / "expected.json"
    known = json.loads(place.read_text())
    new = sorted(path for path in folder.glob("*.har") if path.name not in known)
    for path in new:
        known[path.name] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    place.write_text(json.dumps(known, indent=1) + "\n")
    return [path.name for path in new]


if __name__ == "__main__":
    make(FOLDER)
    print("\n".join(record(FOLDER)) or "nothing new")
