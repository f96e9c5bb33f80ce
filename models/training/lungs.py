"""Training of the lung networks: one output for each mask convention, an image teaches the one it was drawn by."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import load_file
from torch import nn

from models import networks, preprocess
from models.training import augment, data, loop

CACHED_SIDE = 256
LOOK_EVERY_S = 200.0
LEVELS = tuple(sorted((x / 4 for x in range(-8, 9)), key=abs))
"""Logits among which `level` chooses, the least shift first: it wins where several do."""
CONVENTIONS = ("manual", "v7")
Group = Literal["manual", "severe", "child"]
GROUPS: tuple[Group, ...] = ("manual", "severe", "child")


@dataclass(frozen=True)
class Settings:
    """
    How a lung network is made and trained: what the search tunes (`tune`).

    Attributes:
        network: plain-unet, the baseline's kind, or unet with the MobileNetV2 encoder.
        decoder: channels of the widest decoder stage of the unet; each later one has half, at least 8.
        depth, width, dropout: of the plain U-Net.
        loss: cross-entropy plus soft Dice, or plus Tversky's index that counts missed lung more (Salehi et al. 2017).
        missed: weight of missed lung in Tversky's index; what was found too much weighs the rest to 1.
        opacities: most soft white blobs drawn over an image, as consolidation or a device would lie.
        light: strength of gamma, contrast and brightness.
        scale: largest zoom either way.
        severe: share of each batch drawn from severely ill adults; the rest are children.
        manual: share drawn from the manual masks.
        spoilt: share of each batch that is no upright radiograph, to be answered with empty masks.
        coarse: share of the steps and of the budget that is trained at half the side, before the rest at the full one.
    """

    network: Literal["plain-unet", "unet"] = "unet"
    decoder: int = 128
    depth: int = 4
    width: int = 12
    dropout: float = 0.0
    side: int = 192
    batch: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    loss: Literal["dice", "tversky"] = "dice"
    missed: float = 0.5
    opacities: int = 3
    light: float = 1.0
    scale: float = 1.45
    severe: float = 0.3
    manual: float = 0.4
    spoilt: float = 0.08
    coarse: float = 0.0

    def architecture(self, conventions: Sequence[str]) -> Mapping[str, Any]:
        """What the card says and `networks.build` takes."""
        common = {"side": self.side, "conventions": list(conventions)}
        if self.network == "unet":
            decoder = [max(self.decoder >> i, 8) for i in range(5)]
            return {"name": "unet", "encoder": "tu-mobilenetv2_100", "decoder_channels": decoder, **common}
        plain = {"depth": self.depth, "width": self.width, "convolutions": 2, "dropout": self.dropout}
        return {"name": "plain-unet", **plain, **common}


BASELINE = Settings(network="plain-unet", opacities=0, light=0.6, scale=1.2)
"""The paper's baseline is a plain U-Net with usual augmentation; its exact sizes were not to be had, these are ours."""


@dataclass(frozen=True)
class Pictures:
    """
    What is trained on, in memory.

    Attributes:
        images: (n, 1, CACHED_SIDE, CACHED_SIDE) uint8.
        masks: (n, conventions, CACHED_SIDE, CACHED_SIDE) uint8.
        known: (n, conventions): whether there is such a mask.
        group: (n,) index in `GROUPS`.
    """

    images: torch.Tensor
    masks: torch.Tensor
    known: torch.Tensor
    group: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def where(self, rows: torch.Tensor) -> Pictures:
        """Some of them."""
        return Pictures(self.images[rows], self.masks[rows], self.known[rows], self.group[rows])


def train(
    pictures: Pictures,
    settings: Settings,
    conventions: Sequence[str],
    plan: loop.Plan,
    start: Path | None,
    on_save: Callable[[nn.Module], str | None] = lambda _: None,
) -> nn.Module:
    """
    Train on *pictures*, coarsely first where the settings say so; a resumed run goes on in the stage it was in.

    Args:
        start: ImageNet weights for the MobileNetV2 encoder of a `unet`.
    """
    torch.manual_seed(plan.seed)
    net = networks.build(settings.architecture(conventions))
    if start is not None and settings.network == "unet":
        start_encoder(net, start)
    net = net.to(memory_format=torch.channels_last)
    weights = drawing_weights(pictures.group, settings)

    def loss_of(net: nn.Module, generator: torch.Generator, side: int = settings.side) -> torch.Tensor:
        chosen = torch.multinomial(weights, settings.batch, replacement=True, generator=generator)
        some = pictures.where(chosen)
        picture, target, known = drawn(some, replace(settings, side=side), generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(preprocess.standardised(picture).contiguous(memory_format=torch.channels_last))
        return agreement_loss(logits.float(), target, known, settings)

    before, plan = stages(plan, settings.coarse)
    if before:
        net = loop.train(net, partial(loss_of, side=settings.side // 2), before, on_save)
    return loop.train(net, loss_of, plan, on_save)


def stages(plan: loop.Plan, coarse: float) -> tuple[loop.Plan | None, loop.Plan]:
    """The plan of the coarse stage, where there is one, and what it leaves of *plan*."""
    if not coarse:
        return None, plan
    steps, minutes = round(coarse * plan.steps), coarse * plan.budget_minutes
    apart = plan.checkpoint.with_name(f"coarse-{plan.checkpoint.name}")
    rest = replace(plan, steps=plan.steps - steps, budget_minutes=plan.budget_minutes - minutes)
    return replace(plan, steps=steps, budget_minutes=minutes, checkpoint=apart), rest


def drawing_weights(group: torch.Tensor, settings: Settings) -> torch.Tensor:
    """How often each picture is drawn; groups that are not there leave their share to the others."""
    shares = {"manual": settings.manual, "severe": settings.severe}
    shares["child"] = max(1 - sum(shares.values()), 0.05)
    weights = torch.zeros(len(group), dtype=torch.float64)
    for i, name in enumerate(GROUPS):
        mine = group == i
        if mine.any():
            weights[mine] = shares[name] / int(mine.sum())
    return weights


def drawn(
    some: Pictures, settings: Settings, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One augmented batch: pictures in about [0, 1], their masks, and which of these are known."""
    theta = augment.geometry(len(some), generator, scale=settings.scale, aspect=1.2, degrees=12, shift=0.12)
    both = augment.warp(torch.cat([some.images.float() / 255, some.masks.float() / 255], dim=1), theta)
    both = F.interpolate(both, size=(settings.side, settings.side), mode="bilinear", antialias=True)
    picture, target, known = both[:, :1], (both[:, 1:] > 0.5).float(), some.known
    if settings.opacities:
        picture = augment.opacities(picture, generator, settings.opacities)
    picture = augment.degrade(augment.light(picture, generator, settings.light), generator)
    spoilt = torch.rand(len(some), generator=generator) < settings.spoilt
    if spoilt.any():
        picture, target, known = picture.clone(), target.clone(), known.clone()
        picture[spoilt] = augment.spoil(picture[spoilt], generator)
        target[spoilt], known[spoilt] = 0, True
    return picture, target, known


def agreement_loss(logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Cross-entropy plus one minus overlap, averaged over the masks that are *known* (n, conventions)."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((2, 3))
    probability = torch.sigmoid(logits)
    both = (probability * target).sum((2, 3))
    missed, too_much = target.sum((2, 3)) - both, probability.sum((2, 3)) - both
    weight = settings.missed if settings.loss == "tversky" else 0.5
    overlap = (both + 25) / (both + weight * missed + (1 - weight) * too_much + 25)
    counted = known.float()
    return ((entropy + 1 - overlap) * counted).sum() / counted.sum().clamp(min=1)


def cached(cases: Sequence[data.Case], conventions: Sequence[str]) -> Pictures:
    """Read and shrink every picture with its masks."""
    images, masks, known, group = [], [], [], []
    for case in track(cases, "reading pictures and masks"):
        images.append(np.rint(preprocess.squared(data.read_pixels(case.path), CACHED_SIDE) * 255).astype(np.uint8))
        paths = {data.CONVENTION_OF[origin]: path for origin, path in case.masks if origin in data.CONVENTION_OF}
        known.append([c in paths for c in conventions])
        masks.append(np.stack([_small(paths.get(c)) for c in conventions]))
        group.append(GROUPS.index(group_of(case)))
    return Pictures(
        torch.from_numpy(np.stack(images))[:, None],
        torch.from_numpy(np.stack(masks)),
        torch.tensor(known),
        torch.tensor(group),
    )


def group_of(case: data.Case) -> Group:
    """Which share of a batch the case belongs to."""
    if case.role == "paediatric":
        return "child"
    return "severe" if case.mask_of("v7") else "manual"


def _small(path: Path | None) -> npt.NDArray[np.uint8]:
    if path is None:
        return np.zeros((CACHED_SIDE, CACHED_SIDE), np.uint8)
    mask = torch.from_numpy(data.read_mask(path)).float()[None, None]
    small = F.interpolate(mask, size=(CACHED_SIDE, CACHED_SIDE), mode="bilinear", antialias=True)
    grey: npt.NDArray[np.uint8] = np.rint(small[0, 0].numpy() * 255).astype(np.uint8)
    return grey


def held_out_dice(net: nn.Module, pictures: Pictures, side: int) -> torch.Tensor:
    """(n, conventions) Dice at the network's size; NaN where there is no such mask."""
    return held_out_dices(net, pictures, side, (0.0,))[0]


def held_out_dices(net: nn.Module, pictures: Pictures, side: int, levels: Sequence[float]) -> torch.Tensor:
    """(levels, n, conventions): the same where lung begins at each of several logits."""
    net.eval()
    found = []
    for first in range(0, len(pictures), 32):
        some = pictures.where(torch.arange(first, min(first + 32, len(pictures))))
        both = torch.cat([some.images, some.masks], 1).float() / 255
        both = F.interpolate(both, size=(side, side), mode="bilinear", antialias=True)
        with torch.inference_mode():
            logits = net(preprocess.standardised(both[:, :1]))
        truth = both[:, 1:] > 0.5
        said = torch.stack([logits > level for level in levels])
        dice = 2 * (said & truth).sum((3, 4)) / (said.sum((3, 4)) + truth.sum((2, 3))).clamp(min=1)
        found.append(torch.where(some.known, dice, torch.nan))
    return torch.cat(found, dim=1)


def level(net: nn.Module, pictures: Pictures, side: int) -> list[float]:
    """
    Shift each output so that lung begins at a probability of one half where its Dice on held-out *pictures* is best.

    A loss that counts missed lung more draws outlines too wide; children and adults weigh the same in the choice.

    Returns:
        Of each output, the logit that was taken off.
    """
    dices = held_out_dices(net, pictures, side, LEVELS)
    by_group = [dices[:, pictures.group == g].nanmean(1) for g in range(len(GROUPS)) if (pictures.group == g).any()]
    best = torch.stack(by_group).nanmean(0).argmax(0)
    taken = [LEVELS[i] for i in best.tolist()]
    last = [m for m in net.modules() if isinstance(m, nn.Conv2d)][-1]
    with torch.no_grad():
        last.bias -= torch.tensor(taken)  # type: ignore[operator]
    return taken


def merit(dice: torch.Tensor) -> float:
    """Over conventions, the mean of mean Dice and of the worst tenth's mean: the paper's gain is robustness."""
    each = []
    for column in dice.T:
        values = column[~column.isnan()].sort().values
        if len(values):
            each.append((values.mean() + values[: max(len(values) // 10, 1)].mean()) / 2)
    return float(torch.stack(each).mean())


def start_encoder(net: nn.Module, weights: Path) -> None:
    """Put ImageNet weights of timm's `mobilenetv2_100` into the encoder; the three colours are summed to grey."""
    stored = {k: v.float() for k, v in load_file(weights).items()}
    stored["conv_stem.weight"] = stored["conv_stem.weight"].sum(1, keepdim=True)
    encoder = net.encoder.model  # type: ignore[union-attr]
    wanted = encoder.state_dict()  # type: ignore[union-attr]
    encoder.load_state_dict({k: stored[k] for k in wanted})  # type: ignore[union-attr]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `train lungs` beside those of every training."""
    parser.add_argument("--network", choices=("optimised", "baseline"), default="optimised")
    parser.add_argument("--settings", type=Path, help="JSON that `tune` wrote; its best settings train the network")
    parser.add_argument("--side", type=int, default=Settings.side)
    parser.add_argument("--coarse", type=float, default=0.4, help="share of the run at half the side, before the rest")
    parser.add_argument("--licensed", action="store_true", help="only images and masks that may be used commercially")


def run(arguments: argparse.Namespace, plan: loop.Plan, how: Callable[[loop.Plan], Mapping[str, Any]]) -> None:
    """Train one lung network and write it with its card: `lungs`, or `lungs-baseline`."""
    from models.training import cards

    is_baseline = arguments.network == "baseline"
    settings = BASELINE if is_baseline else Settings()
    if is_baseline:
        arguments.weights_from = None
    elif arguments.settings:
        settings = Settings(**json.loads(arguments.settings.read_text())["best"])
    settings = replace(settings, side=arguments.side, coarse=arguments.coarse)
    conventions = CONVENTIONS[1:] if arguments.licensed else CONVENTIONS
    name = "lungs-baseline" if is_baseline else "lungs"
    plan = replace(
        plan,
        checkpoint=plan.checkpoint.with_name(f"{name}.checkpoint.safetensors"),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        save_every_s=LOOK_EVERY_S,
    )
    every = data.read_manifest(arguments.cxr)
    cases = data.lung_cases(every, licensed=arguments.licensed)
    held_out = cached(data.lung_cases(every, held_out=True, licensed=arguments.licensed), conventions)
    glanced = held_out.where(torch.arange(0, len(held_out), 3))

    def look(net: nn.Module) -> str:
        dice = held_out_dice(net, glanced, settings.side)
        return "held-out Dice " + " ".join(f"{c} {dice[:, i].nanmean():.4f}" for i, c in enumerate(conventions))

    net = train(cached(cases, conventions), settings, conventions, plan, arguments.weights_from, look)
    taken = dict(zip(conventions, level(net, held_out, settings.side), strict=True))
    training = {**how(plan), "settings": asdict(settings), "taken_off_the_logits": taken}
    before, _ = stages(plan, settings.coarse)
    if before:
        steps, spent_s = loop.progress_of(before.checkpoint)
        minutes = round(training["took_minutes"] + spent_s / 60, 1)
        training |= {"took_minutes": minutes, "steps": training["steps"] + steps, "of_these_at_half_the_side": steps}
    cards.ship_lungs(
        net,
        cases,
        arguments.out,
        training,
        name=name,
        architecture=settings.architecture(conventions),
    )
