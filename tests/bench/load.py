"""`hearth serve` under load: rates, latencies, memory, and whether every answer is the one that a single user gets.

python tests/bench/load.py model.har --seconds 600 --clients 32 [--json report.json] [--prefix-cache 0 ...]

An archive with a tokenizer. Options that are not of this program are given to `hearth serve`. The server is a process
of its own; this one only reads and compares.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

WORDS = [
    "fire",
    "wood",
    "stone",
    "river",
    "window",
    "garden",
    "winter",
    "lamp",
    "bread",
    "kettle",
    "letter",
    "house",
]
PROMPTS = 32  # distinct requests, half of them greedy
PERCENTILES = (50, 90, 99, 100)
SETTLE_S = 5.0  # what a server may take to free the rows of clients that are gone
Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What came of a request: the ids of prompt and answer, and when the lines of it came."""

    status: int
    ids: tuple[int, ...]
    count: int
    began: float
    times: tuple[float, ...]
    error: str = ""

    @property
    def ttft_s(self) -> float:
        return self.times[0] - self.began

    @property
    def gaps_s(self) -> list[float]:
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


@dataclass(frozen=True)
class Server:
    """Where it listens, and its process."""

    host: str
    port: int
    process: subprocess.Popen[str]

    async def lines(self, path: str, body: Json | None) -> AsyncIterator[tuple[int, bytes]]:
        """(status, line) of a response, chunk by chunk. Leaving it closes the connection."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            data = b"" if body is None else json.dumps(body).encode()
            method = "GET" if body is None else "POST"
            head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(data)}\r\n\r\n"
            writer.write(head.encode() + data)
            status, chunked = await _read_head(reader)
            if not chunked:
                for line in (await reader.read()).splitlines():
                    yield status, line
                return
            while size := int(await reader.readline(), 16):
                for line in (await reader.readexactly(size + 2)).splitlines():
                    if line:
                        yield status, line
        finally:
            writer.close()

    async def ask(self, body: Json) -> Answer:
        """One request, read to its end."""
        began, times, last, status = time.perf_counter(), [], {}, 0
        async for status, line in self.lines("/api/generate", body):  # noqa: B007
            times.append(time.perf_counter())
            last = json.loads(line)
        ids, count = tuple(last.get("context", ())), last.get("eval_count", 0)
        return Answer(status, ids, count, began, tuple(times), last.get("error", ""))

    async def gauge(self, name: str) -> float:
        """A figure of /metrics."""
        found = [line async for _, line in self.lines("/metrics", None)]
        return sum(
            float(line.split()[-1]) for line in found if line.startswith(name.encode() + b"{")
        )

    def memory(self) -> tuple[int, int]:
        """Bytes resident, and those of them that are no file's."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines())
        return tuple(int(fields[name].split()[0]) << 10 for name in ("VmRSS", "RssAnon"))  # type: ignore[return-value]


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, bool]:
    status = int((await reader.readline()).split()[1])
    chunked = False
    while (line := await reader.readline()).strip():
        chunked |= line.lower().startswith(b"transfer-encoding: chunked")
    return status, chunked


def start(archive: Path, rows: int, queue: int, options: Sequence[str]) -> Server:
    """The program, once it listens."""
    program = Path(__file__).parents[1] / "support/command_line.py"
    command = [sys.executable, str(program), "serve", f"m={archive}", "--port", "0", "--quiet"]
    command += ["--rows", str(rows), "--queue", str(queue), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "listening at " in line:
            address = urlsplit(line.split("listening at ")[1].strip())
            return Server(str(address.hostname), int(address.port or 0), process)
    raise SystemExit("the server does not start")


def requests(tokens: int, seed: int = 0) -> list[Json]:
    """Prompts of 4 to 120 words; every other one draws, with a seed of its own."""
    draw = random.Random(seed)
    made = []
    for number in range(PROMPTS):
        options: Json = {"num_predict": draw.randint(tokens // 2, tokens + tokens // 2)}
        options |= (
            {"temperature": 0.0}
            if number % 2
            else {"temperature": 0.8, "top_p": 0.9, "seed": number}
        )
        prompt = " ".join(draw.choices(WORDS, k=draw.choice((4, 12, 40, 120))))
        made.append({"model": "m", "prompt": f"{number}. {prompt}", "options": options})
    return made


@dataclass
class Load:
    """What many clients at once have seen."""

    elapsed_s: float = 0.0
    answers: int = 0
    tokens: int = 0
    wrong: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    ttft_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    memory: list[tuple[int, int]] = field(default_factory=list)


async def rate(server: Server, bodies: Sequence[Json]) -> float:
    """Tokens per second in all, from when every client has its first until one has its last."""
    answers = await asyncio.gather(*map(server.ask, bodies))
    first, last = max(each.times[0] for each in answers), min(each.times[-1] for each in answers)
    return sum(first < at <= last for each in answers for at in each.times) / (last - first)


async def load(
    server: Server, bodies: Sequence[Json], alone: Sequence[Answer], clients: int, seconds: float
) -> Load:
    """So many clients for so long, each asking again as soon as it has its answer."""
    found, began = Load(), time.perf_counter()
    end = began + seconds

    async def client(number: int) -> None:
        draw = random.Random(number)
        while time.perf_counter() < end:
            which = draw.randrange(len(bodies))
            try:
                answer = await server.ask(bodies[which])
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                found.errors[type(error).__name__] += 1
                continue
            if answer.status != 200 or answer.error:
                found.errors[f"{answer.status} {answer.error}"[:80]] += 1
                continue
            found.answers += 1
            found.tokens += answer.count
            found.wrong += answer.ids != alone[which].ids
            found.ttft_s.append(answer.ttft_s)
            found.gaps_s.extend(answer.gaps_s)

    async def watch() -> None:
        while time.perf_counter() < end:
            found.memory.append(server.memory())
            await asyncio.sleep(min(1.0, seconds / 60))

    await asyncio.gather(watch(), *map(client, range(clients)))
    found.elapsed_s = time.perf_counter() - began
    return found


async def vanish(server: Server, clients: int, tokens: int) -> float:
    """Seconds after which no row is active, once all clients have gone in the middle of their answers."""

    async def leave(number: int) -> None:
        body = {
            "model": "m",
            "prompt": f"{number} fire",
            "options": {"num_predict": tokens, "temperature": 0},
        }
        lines = server.lines("/api/generate", body)
        for _ in range(3):
            await anext(lines)
        await lines.aclose()  # type: ignore[attr-defined]

    await asyncio.gather(*map(leave, range(clients)))
    return await _until(lambda: _idle(server))


async def overfill(server: Server, room: int, more: int, tokens: int) -> Json:
    """Statuses of more requests at once than have room, the longest wait for a refusal, and that all is free after."""
    body = {"model": "m", "prompt": "fire", "options": {"num_predict": tokens, "temperature": 0}}
    answers = await asyncio.gather(*(server.ask(body) for _ in range(room + more)))
    refused = [each.times[-1] - each.began for each in answers if each.status != 200]
    counts = Counter(str(each.status) for each in answers)
    return {"statuses": dict(counts), "refused_within_s": max(refused, default=0.0)}


async def _idle(server: Server) -> bool:
    return not await server.gauge("hearth_rows_active") + await server.gauge("hearth_queue_length")


async def _until(done: Callable[[], Awaitable[bool]]) -> float:
    began = time.perf_counter()
    while not await done():
        if time.perf_counter() - began > SETTLE_S:
            return float("inf")
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds by percentile."""
    ordered = sorted(seconds)
    return {
        f"p{p}": round(1e3 * ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 1)
        for p in PERCENTILES
    }


def growth(memory: Sequence[tuple[int, int]]) -> Json:
    """MB at the medians of the second and the last quarter: the first one is where buffers are made."""
    quarter = max(1, len(memory) // 4)
    parts = {"second_quarter": memory[quarter : 2 * quarter], "last_quarter": memory[-quarter:]}
    return {
        name: {
            "resident_mb": round(median(each[0] for each in part) / 1e6, 1),
            "anonymous_mb": round(median(each[1] for each in part) / 1e6, 1),
        }
        for name, part in parts.items()
    } | {"most_resident_mb": round(max(each[0] for each in memory) / 1e6, 1)}


async def run(given: argparse.Namespace, options: Sequence[str]) -> Json:
    """All measurements in their order, as one report."""
    server = start(given.archive, given.rows, given.queue, options)
    try:
        bodies = requests(given.tokens)
        await server.ask(bodies[0])
        alone = [await server.ask(body) for body in bodies]
        long = {"temperature": 0, "num_predict": 2 * given.tokens}
        same = [
            {"model": "m", "prompt": f"{n} {WORDS[n % 12]}", "options": long}
            for n in range(given.rows)
        ]
        single, together = [], []
        for _ in range(given.rounds):
            single.append(await rate(server, same[:1]))
            together.append(await rate(server, same))
        found = await load(server, bodies, alone, given.clients, given.seconds)
        left = await vanish(server, given.rows, 1000)
        full = await overfill(server, given.rows + given.queue, 10, 4)
        return {
            "archive": given.archive.name,
            "single_tokens_s": round(median(single), 1),
            "together_tokens_s": round(median(together), 1),
            "rows": given.rows,
            "times_single": round(median(together) / median(single), 2),
            "alone": {
                "ttft_ms": percentiles([each.ttft_s for each in alone]),
                "per_token_ms": percentiles([gap for each in alone for gap in each.gaps_s]),
            },
            "load": {
                "clients": given.clients,
                "seconds": given.seconds,
                "answers": found.answers,
                "tokens_s": round(found.tokens / found.elapsed_s, 1),
                "errors": dict(found.errors),
                "answers_unlike_alone": found.wrong,
                "ttft_ms": percentiles(found.ttft_s),
                "per_token_ms": percentiles(found.gaps_s),
                "memory": growth(found.memory),
            },
            "rows_free_after_clients_vanish_s": round(left, 3),
            "overfull": full,
            "alive": server.process.poll() is None,
        }
    finally:
        server.process.terminate()
        server.process.wait(30)


def main() -> None:
    """Prints the report; exit code 1 where an answer was wrong, a request failed or the server died."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=48, help="of an answer, on average")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given, options = parser.parse_known_args()
    report = asyncio.run(run(given, options))
    text = json.dumps(report, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text)
    load = report["load"]
    sys.exit(bool(load["errors"] or load["answers_unlike_alone"] or not report["alive"]))


if __name__ == "__main__":
    main()
