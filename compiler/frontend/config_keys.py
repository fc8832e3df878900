"""The keys of config.json that are not read: those that cannot change the logits, and those that would.

A key on neither list is refused unless it is null or false: guessing would compile another model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hearth.compiler.frontend.fields import Fields, shorten
from hearth.schemas.errors import CheckpointError

HARMLESS = frozenset({
    "architectures", "attention_dropout", "attention_probs_dropout_prob", "attn_implementation",
    "attn_pdrop", "auto_map", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
    "cache_implementation", "chunk_size_feed_forward", "classifier_dropout", "cls_token_id",
    "cross_attention_hidden_size",
    "decoder_start_token_id", "directionality", "diversity_penalty", "do_sample", "dropout",
    "dtype", "early_stopping", "embd_pdrop", "encoder_no_repeat_ngram_size", "eos_token_id",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id",
    "forced_eos_token_id", "gradient_checkpointing", "hidden_dropout", "hidden_dropout_prob",
    "id2label", "initializer_factor", "initializer_range", "is_decoder", "is_llama_config",
    "label2id", "length_penalty", "mask_token_id", "max_length", "max_new_tokens", "max_seq_len",
    "max_sequence_length", "min_length", "min_p", "model_max_length", "model_type", "n_ctx",
    "name_or_path", "neftune_noise_alpha", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_labels", "num_return_sequences", "output_attentions", "output_hidden_states",
    "output_past", "output_scores", "pad_token_id", "pooler_fc_size", "pooler_num_attention_heads",
    "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "prefix", "problem_type",
    "qa_dropout", "remove_invalid_values", "reorder_and_upcast_attn", "repetition_penalty",
    "resid_pdrop", "return_dict", "return_dict_in_generate", "sep_token_id", "seq_classif_dropout",
    "seq_length", "summary_activation", "summary_first_dropout", "summary_proj_to_labels",
    "summary_type", "summary_use_proj", "suppress_tokens", "task_specific_params", "temperature",
    "tf_legacy_loss", "tie_weights_", "tokenizer_class", "top_k", "top_p", "torch_dtype",
    "torchscript", "transformers.js_config", "transformers_version", "typical_p", "unk_token_id",
    "unsloth_fixed", "unsloth_version", "use_bfloat16", "use_cache", "use_flash_attention",
    "use_flash_attention_2", "use_flash_attn", "use_return_dict", "use_sdpa",
})  # fmt: skip
"""Keys that say how the model was trained, stored, sampled or run, never what it computes. Keys that
start with `_` are notes of the tool that wrote the file."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "pretraining_tp": (1,),
    "partial_rotary_factor": (1,),
    "rotary_pct": (1,),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "qkv_bias": (False,),
    "bias": (False,),
    "use_bias": (False,),
    "lm_head_bias": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_encoder_decoder": (False,),
    "is_causal": (True,),
    "hidden_activation": ("gelu_pytorch_tanh",),
    "pruned_heads": ({},),
    "quantization_config": (),
    "compression_config": (),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "query_pre_attn_scalar": (),
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "attention_multiplier": (),
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "scale_emb": (1,),
    "scale_depth": (),
    "dim_model_base": (),
    "mup_width_multiplier": (1,),
    "clip_qkv": (),
    "rope_interleaved": (False,),
    "rope_ratio": (1,),
    "use_mrope": (False,),
    "no_rope_layers": ([],),
    "no_rope_layer_interval": (),
    "use_qk_norm": (False,),
    "qk_layernorm": (False,),
    "qk_norm": (False,),
    "alibi": (False,),
    "parallel_attn": (False,),
    "use_parallel_residual": (False,),
    "num_experts": (0, 1),
    "num_local_experts": (0, 1),
    "n_routed_experts": (0,),
    "num_nextn_predict_layers": (0,),
    "attention_chunk_size": (),
    "full_attn_mod": (1,),
    "interpolate_factor": (1,),
    "attn_temperature_tuning": (False,),
    "use_bidirectional_attention": (False,),
    "sliding_window": (),
    "use_sliding_window": (False,),
    "max_window_layers": (),
    "layer_types": (),
    "per_layer_config": (),
    "vision_config": (),
    "audio_config": (),
    "text_config": (),
}
"""Keys that change what is computed, with the values under which they do not; null is always such a value."""


def check_unread(fields: Fields) -> None:
    """Refuse by name what was not read and may change the logits."""
    for key, value in fields.unread().items():
        if value is None or key in HARMLESS or key.startswith("_"):
            continue
        if key in NEUTRAL:
            if not any(_equal(value, neutral) for neutral in NEUTRAL[key]):
                raise fields.unsupported(key, _choices(NEUTRAL[key]))
        elif value is not False:
            raise CheckpointError(
                "config.key_unknown",
                f"{key} = {shorten(value)} is not known, it may change what the model computes",
                expected="a known key, or the value null or false",
                where=fields.where,
                remedy="if it cannot change the logits, add it to HARMLESS in "
                "compiler/frontend/config_keys.py",
            )


def _equal(value: object, neutral: object) -> bool:
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _choices(values: tuple[Any, ...]) -> str:
    return " or ".join([*(shorten(value) for value in values), "null", "no such key"])
