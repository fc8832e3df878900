"""Fields that clients and other servers know and that change no answer here: read, and left alone."""

from __future__ import annotations

from hearth.runtime.serving.openai.fields import Field, ignored
from hearth.runtime.serving.openai.kinds import any_value

OPENAI = (
    "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "prompt_cache_options", "reasoning_effort", "verbosity", "prediction",
)  # fmt: skip
# How a server is to reason, cache, schedule or report, in the words of vLLM, llama.cpp, OpenRouter and others.
OTHERS = (
    "cache_prompt", "cache_salt", "priority", "request_id", "skip_special_tokens", "spaces_between_special_tokens",
    "id_slot", "timings_per_token", "return_progress", "keep_alive", "ttl", "provider", "usage", "transforms",
    "plugins", "reasoning", "include_reasoning", "reasoning_format", "reasoning_split", "thinking", "thinking_budget",
)  # fmt: skip
# What Open-WebUI keeps about a chat, some of which its versions pass on.
OPEN_WEBUI = (
    "id", "chat_id", "session_id", "message_id", "parent_id", "parent_message", "user_message", "background_tasks",
    "features", "filter_ids", "tool_ids", "tool_servers", "model_item", "variables", "params", "files",
)  # fmt: skip

UNREAD: tuple[Field, ...] = tuple(
    ignored(name, any_value()) for name in (*OPENAI, *OTHERS, *OPEN_WEBUI)
)
