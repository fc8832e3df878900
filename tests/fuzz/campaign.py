"""A coverage-guided campaign: `python -m fuzz.campaign onnx --seconds 900 --corpus DIR` (from tests/; needs atheris).

Findings are written to DIR/findings: an exception that is no HearthError (one input for each place that raises, and on
it goes), a crash, a hang of 20 s, more than 1 GiB (which end the campaign). Put what was fixed under
tests/fuzz/cases/<target>/, where the tests replay it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import traceback
from pathlib import Path

RSS_LIMIT_MB = 1024
HANG_SECONDS = 20


def keep(findings: Path, target: str, data: bytes, error: Exception) -> None:
    """One input for each place an exception comes from."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/fuzz/" not in frame.filename
    ]
    last = frames[-1]
    ours = next((frame for frame in reversed(frames) if "hearth" in frame.filename), last)
    place = f"{type(error).__name__}-{Path(ours.filename).stem}-{ours.lineno}"
    file = findings / f"{target}-{place}"
    if not file.exists():
        file.write_bytes(data)
        print(f"FOUND {place}: {str(error)[:200]}", flush=True)


def main() -> None:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=("archive", "onnx"))
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--corpus", type=Path, required=True)
    wanted = parser.parse_args()

    import atheris

    with atheris.instrument_imports(include=["hearth"]):
        from fuzz.targets import TARGETS
    target = TARGETS[wanted.target]
    corpus, findings = wanted.corpus / wanted.target, wanted.corpus / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        if not any(corpus.iterdir()):
            for number, seed in enumerate(target.seeds(Path(scratch))):
                (corpus / f"seed-{number:04d}").write_bytes(seed)
        path = Path(scratch) / f"input{target.suffix}"

        def one(data: bytes) -> None:
            path.write_bytes(data)
            try:
                target.run(path)
            except Exception as error:
                keep(findings, wanted.target, data, error)

        def mutate(data: bytes, max_size: int, seed: int) -> bytes:
            rng = random.Random(seed)
            changed = target.mutate(data, rng) if rng.random() < 0.8 else None
            return changed[:max_size] if changed else atheris.Mutate(data, max_size)

        flags = (
            f"-max_total_time={wanted.seconds}", f"-rss_limit_mb={RSS_LIMIT_MB}",
            f"-timeout={HANG_SECONDS}", f"-artifact_prefix={findings}/{wanted.target}-",
            "-max_len=400000", "-print_final_stats=1", str(corpus),
        )  # fmt: skip
        atheris.Setup([sys.argv[0], *flags], one, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
