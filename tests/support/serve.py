"""`hearth serve` as a program of its own, on a free port, over real sockets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MODELS = Path(__file__).parents[2] / "models"
START_S = 60
KEY = "a-key-for-tests"
PROGRAM = Path(__file__).parent / "command_line.py"
# Hermes' form of tool calls, as Qwen's templates have it, in few tokens.
TEMPLATE = """\
{{- bos_token }}{%- if tools %}<tools>
{%- for tool in tools %}{{ tool.function.name }};{%- endfor %}</tools>{%- endif %}
{%- for message in messages %}<|{{ message.role }}|>{{ message.content }}
{%- for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{%- endfor %}{{ eos_token }}{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{%- endif %}"""


@dataclass
class Served:
    """A running server: its URL, its process, what it has written."""

    url: str
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


@contextmanager
def serving(files: Sequence[str], *options: str, port: str = "0") -> Iterator[Served]:
    """The program, from when it listens; it is stopped with SIGTERM at the end."""
    command = [sys.executable, str(PROGRAM), "serve", *files, "--port", port, *options]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    served = Served("", process)
    listening = threading.Event()
    reader = threading.Thread(target=_read, args=(served, listening), daemon=True)
    reader.start()
    try:
        listening.wait(START_S)
        assert served.url, "".join(served.log)
        yield served
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            reader.join(5)


def _read(served: Served, listening: threading.Event) -> None:
    assert served.process.stderr is not None
    for line in served.process.stderr:
        served.log.append(line)
        if "listening at " in line:
            served.url = line.split("listening at ")[1].strip()
            listening.set()
    listening.set()


def chat_checkpoint(folder: Path) -> Path:
    """The demo's checkpoint with a chat template that knows tools."""
    shutil.copytree(MODELS / "hearthside", folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": TEMPLATE}))
    return folder
