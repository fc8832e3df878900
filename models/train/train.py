"""stories -> tokenizer -> model -> checkpoint folder."""

import argparse
import itertools
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from export import export
from model import Llama, Shape
from stories import Story, load_grammar, stories
from tokenizer import ASSISTANT, BOS, EOS, USER, train_tokenizer
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Settings:
    shape: Shape = field(default_factory=Shape)
    seed: int = 1
    held_out_seed: int = 2
    tokenizer_stories: int = 5000
    held_out_stories: int = 400
    chat_share: float = 0.35  # stories told as the answer to a request
    steps: int = 1200
    warmup_steps: int = 100
    rows: int = 8  # of context + 1 tokens, a step
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    gradient_norm: float = 1.0
    threads: int = 1


def document(story: Story, *, chat: bool) -> str:
    if chat:
        return f"{BOS}{USER}{story.request}{ASSISTANT}{story.text}{EOS}"
    return f"{BOS}{story.text}{EOS}"


def documents(settings: Settings, seed: int) -> Iterator[str]:
    """Without end, so that training goes through new stories to the last step."""
    rng = random.Random(seed)
    for story in stories(seed, load_grammar()):
        yield document(story, chat=rng.random() < settings.chat_share)


def rows(texts: Iterator[str], tokenizer: Tokenizer, length: int) -> Iterator[list[int]]:
    """Each row begins with a document, as generation does; the last one in it may be cut."""
    row: list[int] = []
    for text in texts:
        row += tokenizer.encode(text, add_special_tokens=False).ids
        if len(row) >= length:
            yield row[:length]
            row = []


def loss_of(model: Llama, batch: Sequence[Sequence[int]]) -> Tensor:
    tokens = torch.tensor(batch)  # (B, T + 1)
    logits = model(tokens[:, :-1]).float()  # (B, T, V)
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def learning_rate(settings: Settings, step: int) -> float:
    """Linear warm-up, then half a cosine down to a twentieth."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def train(settings: Settings, tokenizer: Tokenizer) -> Llama:
    model = Llama(settings.shape)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters", flush=True)
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    gains = [weight for weight in model.parameters() if weight.ndim == 1]
    optimiser = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": gains, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.95),
        fused=True,
    )
    data = rows(documents(settings, settings.seed), tokenizer, settings.shape.context + 1)
    start, mean = time.monotonic(), None
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(settings, step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, list(itertools.islice(data, settings.rows)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_norm)
        optimiser.step()
        mean = loss.item() if mean is None else 0.95 * mean + 0.05 * loss.item()
        if step % 20 == 19:
            elapsed = time.monotonic() - start
            left = elapsed / (step + 1) * (settings.steps - step - 1)
            print(
                f"step {step + 1}/{settings.steps}  loss {mean:.3f}  {left / 60:.1f} min left",
                flush=True,
            )
    return model


@torch.inference_mode()
def held_out_loss(model: Llama, settings: Settings, tokenizer: Tokenizer) -> float:
    texts = itertools.islice(documents(settings, settings.held_out_seed), settings.held_out_stories)
    batches = [[row] for row in rows(texts, tokenizer, settings.shape.context + 1)]
    return sum(loss_of(model, batch).item() for batch in batches) / len(batches)


@torch.inference_mode()
def continue_text(model: Llama, tokenizer: Tokenizer, prompt: str, length: int = 200) -> str:
    """Greedy; without a cache, which is good enough for a look."""
    ids = tokenizer.encode(prompt).ids
    for _ in range(length):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == tokenizer.token_to_id(EOS):
            break
    return str(tokenizer.decode(ids))


def main() -> None:
    default = Settings()
    parser = argparse.ArgumentParser(description="Train the demo model and write its checkpoint.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--threads", type=int, default=default.threads)
    arguments = parser.parse_args()
    settings = Settings(steps=arguments.steps, threads=arguments.threads)

    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    texts = itertools.islice(documents(settings, settings.seed), settings.tokenizer_stories)
    tokenizer = train_tokenizer(texts, settings.shape.vocab)
    start = time.monotonic()
    model = train(settings, tokenizer)
    minutes = (time.monotonic() - start) / 60
    print(f"held-out loss {held_out_loss(model, settings, tokenizer):.4f} after {minutes:.1f} min")
    export(model, tokenizer, arguments.folder)
    print(continue_text(model, tokenizer, "Once upon a time"))


if __name__ == "__main__":
    main()
