"""One training loop for both networks: seeded, within a time budget, averaged, resumable from a small checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn


@dataclass(frozen=True)
class Plan:
    """How long to train and from what: the schedule ends at *steps* or with the budget, whichever comes first."""

    steps: int
    budget_minutes: float
    seed: int
    checkpoint: Path
    resume: bool = False
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    save_every_s: float = 60
    average_over: int = 100
    """Steps that the moving average looks back on: short runs need a shorter memory."""


def train(
    net: nn.Module,
    loss_of: Callable[[nn.Module, torch.Generator], torch.Tensor],
    plan: Plan,
    on_save: Callable[[nn.Module], str | None] = lambda _: None,
) -> nn.Module:
    """
    Train *net* in place and return its moving average, which is what ships.

    Args:
        net: in channels-last layout; trained in bf16 where the processor has it.
        loss_of: draws a batch with the given generator and returns the loss on it.
        plan: budget, seed, checkpoint.
        on_save: called with the average at each checkpoint; what it returns is shown.
    """
    torch.set_flush_denormal(True)  # vanishing values would slow a processor tenfold
    average = torch.optim.swa_utils.AveragedModel(net, avg_fn=None, use_buffers=True)
    step, spent_s = _resume(net, average, plan) if plan.resume and plan.checkpoint.exists() else (0, 0.0)
    optimiser = torch.optim.AdamW(
        [p for p in net.parameters() if p.requires_grad], lr=plan.learning_rate, weight_decay=plan.weight_decay
    )
    began, saved_at, smooth = time.monotonic() - spent_s, time.monotonic(), 0.0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("training", total=plan.steps, completed=step)
        net.train()
        while step < plan.steps:
            share = max(step / plan.steps, (time.monotonic() - began) / (60 * plan.budget_minutes))
            if share >= 1:
                break
            for group in optimiser.param_groups:
                group["lr"] = plan.learning_rate * _schedule(share)
            generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
            loss = loss_of(net, generator)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimiser.step()
            step += 1
            _follow(average, net, step, plan.average_over)
            smooth = float(loss.detach()) if smooth == 0 else 0.98 * smooth + 0.02 * float(loss.detach())
            progress.update(task, completed=step, description=f"loss {smooth:.4f}")
            if time.monotonic() - saved_at > plan.save_every_s:
                saved_at = time.monotonic()
                _save(net, average, step, time.monotonic() - began, plan.checkpoint)
                said = on_save(average.module)
                progress.console.print(f"step {step} loss {smooth:.4f} {said or ''}")
                net.train()
    _save(net, average, step, time.monotonic() - began, plan.checkpoint)
    trained: nn.Module = average.module
    return trained.eval()


def progress_of(checkpoint: Path) -> tuple[int, float]:
    """Steps done and seconds spent, all runs together."""
    with safe_open(checkpoint, framework="pt") as file:
        metadata = file.metadata()
    return int(metadata["step"]), float(metadata["spent_s"])


def _schedule(share: float) -> float:
    """Linear warm-up over the first 5 % of the budget, then a cosine to zero."""
    return min(1.0, 0.05 + share / 0.05) * 0.5 * (1 + math.cos(math.pi * share))


@torch.no_grad()
def _follow(average: torch.optim.swa_utils.AveragedModel, net: nn.Module, step: int, over: int) -> None:
    keep = min(1 - 1 / over, step / (step + 10))
    for mine, new in zip(average.module.state_dict().values(), net.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(new, 1 - keep)
        else:
            mine.copy_(new)


def _save(net: nn.Module, average: torch.optim.swa_utils.AveragedModel, step: int, spent_s: float, path: Path) -> None:
    """Both states in half precision stay under 20 MB; the optimiser's moments start anew after a resume."""
    tensors = {f"net.{k}": _half(v) for k, v in net.state_dict().items()}
    tensors |= {f"average.{k}": _half(v) for k, v in average.module.state_dict().items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step), "spent_s": str(spent_s)})
    partial.replace(path)


def _half(tensor: torch.Tensor) -> torch.Tensor:
    kept = tensor.detach().half() if tensor.is_floating_point() else tensor.detach()
    return kept.clone().contiguous()


def _resume(net: nn.Module, average: torch.optim.swa_utils.AveragedModel, plan: Plan) -> tuple[int, float]:
    stored = load_file(plan.checkpoint)
    net.load_state_dict({k.removeprefix("net."): v for k, v in stored.items() if k.startswith("net.")})
    average.module.load_state_dict(
        {k.removeprefix("average."): v for k, v in stored.items() if k.startswith("average.")}
    )
    return progress_of(plan.checkpoint)
