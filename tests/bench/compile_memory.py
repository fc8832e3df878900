"""What compiles say they need beside what they take: PYTHONPATH=tests python tests/bench/compile_memory.py SOURCE

A line for each mode: the peak predicted before the long part, the one measured (VmHWM, as the kernel counts it), their
quotient, and in which step of the compile memory was highest, its own and that of files mapped. Modes that calibrate
need `--text`, and a source with a tokenizer. `--modes gptq,gate` takes those whose names begin so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support import command_line

MODES: dict[str, str] = {
    "int4": "",
    "int8": "--weights int8",
    "f16": "--weights f16",
    "f32": "--weights f32",
    "nf4": "--weights nf4",
    "lut4": "--weights lut4",
    "quarot": "--method quarot",
    "check": "--check",
    "f32-check": "--weights f32 --check",
    "prompt": "--prompt-cache You_are_a_helpful_assistant.",
    "gptq": "--method gptq --calibration TEXT",
    "gptq-quarot": "--method gptq,quarot --calibration TEXT",
    "gptaq": "--method gptaq --calibration TEXT",
    "lwc-int3": "--method lwc,importance --weights int3 --calibration TEXT",
    "smoothquant": "--method smoothquant --calibration TEXT",
    "peaks": "--method peaks --calibration TEXT",
    "static": "--activations static --kv int8-static --calibration TEXT",
    "auto": "--activations auto --calibration TEXT",
    "tune": "--method gptq,tune --weights int3 --calibration TEXT",
    "gate": "--max-ppl-increase 3% --calibration TEXT",
    "gate-kld": "--max-ppl-increase 3% --max-kld 0.05 --calibration TEXT",
    "gate-bits": "--max-bits 4.5 --calibration TEXT",
    "gate-gptq": "--max-ppl-increase 3% --method gptq --calibration TEXT",
    "gate-gptq-quarot": "--max-bits 4.5 --method gptq,quarot --calibration TEXT",
}
INTERVAL = 0.01  # seconds between looks
FIELDS = ("VmHWM", "RssAnon", "RssFile", "RssShmem")


@dataclass(frozen=True)
class Look:
    """Bytes of a process, and the step of the compile that it is in."""

    step: str
    own: int
    mapped: int


@dataclass(frozen=True)
class Found:
    """One compile; `highest` is where the sampled sum was highest."""

    predicted: int
    measured: int
    seconds: float
    highest: Look


class CompileError(Exception):
    """The compile did not end well; its last words."""


@dataclass
class Watch:
    """Looks at a process until it ends, and keeps the highest."""

    process: subprocess.Popen[str]
    step: str = "load"
    highest: Look = Look("", 0, 0)

    def run(self) -> None:
        """Look after look."""
        while self.process.poll() is None:
            found = _status(self.process.pid)
            if found is not None:
                own, mapped = found
                if own + mapped > self.highest.own + self.highest.mapped:
                    self.highest = Look(self.step, own, mapped)
            time.sleep(INTERVAL)


def _status(pid: int) -> tuple[int, int] | None:
    """(its own, files') resident bytes; None where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines)
    if "RssAnon" not in fields:
        return None
    own, mapped = (int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))
    return own, mapped


def compiled(source: Path, options: Sequence[str]) -> Found:
    """One compile in a process of its own, whose archive is thrown away."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        command = [sys.executable, command_line.__file__, "compile", str(source)]
        command += ["-o", f"{folder}/m.har", "--json", *options]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            watch = Watch(process)
            looking = threading.Thread(target=watch.run)
            looking.start()
            last = list(_steps(process, watch))
            assert process.stdout is not None
            lines = [json.loads(line) for line in process.stdout.read().splitlines()]
            looking.join()
    if process.returncode:
        raise CompileError(last[-1] if last else "")
    predicted = next(line for line in lines if line["event"] == "predicted")
    end = next(line for line in lines if line["event"] == "compiled")
    first = predicted["peak_nbytes"]
    return Found(first, end["measured_peak"], end["seconds"], watch.highest)


def _steps(process: subprocess.Popen[str], watch: Watch) -> Iterator[str]:
    """What it says on the way; the lines that are no progress."""
    assert process.stderr is not None
    for line in process.stderr:
        try:
            event = json.loads(line)
            watch.step = event["title"] + (" done" if event["event"] == "done" else "")
        except ValueError:
            yield line.rstrip()


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("rest", nargs="*", help="options of every compile, after --")
    given = parser.parse_args()
    print("mode               predicted  measured  share  seconds  highest in")
    for name in given.modes.split(","):
        options = [str(given.text) if each == "TEXT" else each for each in MODES[name].split()]
        try:
            found = compiled(given.source, [*options, *given.rest])
        except CompileError as error:
            print(f"{name:18} {error}", flush=True)
            continue
        share, high = found.measured / found.predicted, found.highest
        sizes = f"{found.predicted / 1e6:6.0f} MB {found.measured / 1e6:6.0f} MB"
        where = f"{high.step} ({high.own / 1e6:.0f} + {high.mapped / 1e6:.0f} MB of files)"
        print(f"{name:18} {sizes}  {share:4.0%}  {found.seconds:7.1f}  {where}", flush=True)


if __name__ == "__main__":
    main()
