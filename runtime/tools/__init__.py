"""Tool calls: the formats of chat templates, calls parsed from answers, answers that must call."""

from hearth.runtime.tools.choice import call_wish
from hearth.runtime.tools.formats import FORMATS, ToolFormat, format_of, tool_format
from hearth.runtime.tools.messages import template_messages
from hearth.runtime.tools.parser import ToolParser
from hearth.runtime.tools.stream import Arguments, CallReader, Part, call_stream, whole_calls
from hearth.runtime.tools.style import ToolCall
from hearth.runtime.tools.tool import Tool, read_tools

__all__ = [
    "FORMATS",
    "Arguments",
    "CallReader",
    "Part",
    "Tool",
    "ToolCall",
    "ToolFormat",
    "ToolParser",
    "call_stream",
    "call_wish",
    "format_of",
    "read_tools",
    "template_messages",
    "tool_format",
    "whole_calls",
]
