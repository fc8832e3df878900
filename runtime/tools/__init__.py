"""Tool calls: the formats of chat templates, calls parsed from answers, answers that must call."""

from hearth.runtime.tools.choice import call_wish
from hearth.runtime.tools.formats import FORMATS, ToolFormat, format_of, tool_format
from hearth.runtime.tools.messages import template_messages
from hearth.runtime.tools.parser import ToolParser
from hearth.runtime.tools.style import ToolCall
from hearth.runtime.tools.tool import Tool, read_tools

__all__ = [
    "FORMATS",
    "Tool",
    "ToolCall",
    "ToolFormat",
    "ToolParser",
    "call_wish",
    "format_of",
    "read_tools",
    "template_messages",
    "tool_format",
]
