"""BERT and its kin (Devlin et al. 2018, arXiv:1810.04805): encoders of one block, told apart by data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from hearth.compiler.frontend.activations import read_activation
from hearth.compiler.frontend.blueprint import Blueprint, Request, choose_context
from hearth.compiler.frontend.encoder import BERT_NAMES, EncoderConfig, EncoderNames, build, shapes
from hearth.compiler.frontend.fields import Fields
from hearth.schemas.manifest import Dims, Embedding, ModelKind


@dataclass(frozen=True)
class Keys:
    """What config.json calls the sizes."""

    layers: str = "num_hidden_layers"
    hidden: str = "hidden_size"
    heads: str = "num_attention_heads"
    ffn: str = "intermediate_size"
    activation: str = "hidden_act"


BERT_KEYS = Keys()


@dataclass(frozen=True)
class EncoderFamily:
    """One family. `padded`: positions start behind the row of the padding token. `eps`: where the config has none.

    `only`: keys that must have the value given, where they are there.
    """

    model_type: str
    architectures: tuple[str, ...]
    prefix: str
    names: EncoderNames = BERT_NAMES
    keys: Keys = BERT_KEYS
    padded: bool = False
    eps: float = 1e-12
    only: Mapping[str, object] = field(default_factory=dict)
    bodies: tuple[str, ...] = ()

    def blueprint(self, fields: Fields, request: Request) -> Blueprint:
        """The config's tensors and graph."""
        config = self.read(fields, request)
        sentence = request.sentence
        return Blueprint(
            kind=ModelKind.ENCODER,
            dims=config.dims,
            context=config.context,
            shapes=partial(shapes, config, self.names),
            build=partial(build, config, self.names, request),
            beginnings={self.prefix: ""},
            endings={".gamma": ".weight", ".beta": ".bias"},  # of files from TensorFlow
            ignored=IGNORED,
            embedding=Embedding(sentence.pooling, sentence.normalised, config.dims.hidden),
            notes=self._notes(fields),
        )

    def read(self, fields: Fields, request: Request) -> EncoderConfig:
        """The typed config."""
        for key, value in self.only.items():
            if fields.take(key) not in (None, value):
                raise fields.unsupported(key, str(value))
        fields.flag("tie_word_embeddings", True)  # of a head that is left out
        dims = self._dims(fields)
        first = fields.integer("pad_token_id", 1, minimum=0) + 1 if self.padded else 0
        positions = fields.integer("max_position_embeddings", 512)
        if first >= positions:
            raise fields.invalid("max_position_embeddings", f"more than pad_token_id + 1 = {first}")
        limit = positions - first
        suggested = min(request.sentence.longest or limit, limit)
        return EncoderConfig(
            dims=dims,
            positions=positions,
            first_position=first,
            context=choose_context(request.context, limit, suggested, fields.where),
            types=fields.integer("type_vocab_size", 2) if self.names.types else 0,
            activation=read_activation(fields, self.keys.activation, "gelu"),
            eps=fields.number("layer_norm_eps", self.eps),
        )

    def _notes(self, fields: Fields) -> tuple[str, ...]:
        """What the archive will lack of the model that was saved."""
        base, *_ = self.architectures
        named = fields.strings("architectures") or (base,)
        if base in named:
            return ()
        return (f"the head of {named[0]} is left out: an encoder's archive gives vectors",)

    def _dims(self, fields: Fields) -> Dims:
        hidden, heads = fields.integer(self.keys.hidden), fields.integer(self.keys.heads)
        if hidden % heads:
            raise fields.invalid(self.keys.heads, f"a divisor of {self.keys.hidden} = {hidden}")
        return Dims(
            layers=fields.integer(self.keys.layers),
            hidden=hidden,
            heads=heads,
            kv_heads=heads,
            head_dim=hidden // heads,
            ffn=fields.integer(self.keys.ffn),
            vocab=fields.integer("vocab_size"),
        )


IGNORED = (
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "pooler.*",  # of the next-sentence task
    "cls.*",
    "lm_head.*",
    "vocab_*",
)
_ABSOLUTE: Mapping[str, object] = {"position_embedding_type": "absolute", "is_decoder": False}

BERT = EncoderFamily(
    model_type="bert",
    architectures=("BertModel", "BertForMaskedLM", "BertForPreTraining"),
    prefix="bert.",
    only=_ABSOLUTE,
)
ROBERTA = EncoderFamily(
    model_type="roberta",
    architectures=("RobertaModel", "RobertaForMaskedLM"),
    prefix="roberta.",
    padded=True,
    only=_ABSOLUTE,
)
XLM_ROBERTA = EncoderFamily(
    model_type="xlm-roberta",
    architectures=("XLMRobertaModel", "XLMRobertaForMaskedLM"),
    prefix="roberta.",
    padded=True,
    only=_ABSOLUTE,
)
DISTILBERT = EncoderFamily(
    model_type="distilbert",
    architectures=("DistilBertModel", "DistilBertForMaskedLM"),
    prefix="distilbert.",
    names=EncoderNames(
        types="",
        layer="transformer.layer.{layer}",
        q="attention.q_lin",
        k="attention.k_lin",
        v="attention.v_lin",
        o="attention.out_lin",
        attention_norm="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        ffn_norm="output_layer_norm",
    ),
    keys=Keys("n_layers", "dim", "n_heads", "hidden_dim", "activation"),
    only={"sinusoidal_pos_embds": False},
)
