"""Training of the chest classifier on lung crops."""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import load_file
from torch import nn

from models import gate, networks, preprocess
from models.card import read
from models.engine import AT_ONCE, CLASSES, WEIGHTS, loaded, lung_maps
from models.preprocess import View
from models.training import baselines as from_images
from models.training import data, linear, loop, transplant
from models.training.figures import auc
from models.training.recipe import AUGMENTATIONS, TUBERCULOSIS, Recipe, disagreement, resized

CACHED_SIDE = 192
OPEN_WEIGHT = 0.5
"""How often what is only known to be abnormal is drawn, against each class."""


def train(
    cases: Sequence[data.Case],
    crops: torch.Tensor,
    recipe: Recipe,
    plan: loop.Plan,
    start: Path | None,
    on_save: Callable[[nn.Module], str | None] = lambda _: None,
) -> nn.Module:
    """
    Train on the crops of *cases* as *recipe* says.

    Args:
        crops: (n, 1, CACHED_SIDE, CACHED_SIDE) uint8 made by `cached`, one a case.
        start: ImageNet weights of `mobilenetv2_100`, needed where the recipe starts from them.
        on_save: looks at the averaged network now and then; see `looking_at`.
    """
    torch.manual_seed(plan.seed)
    labels = labels_of(cases, recipe)
    net = networks.build(recipe.architecture)
    if recipe.start == "imagenet":
        if start is None:
            raise ValueError("this recipe starts from ImageNet weights: name them with --weights-from")
        backbone: nn.Module = net.backbone  # type: ignore[assignment]
        backbone.load_state_dict(transplant.from_mobilenet(backbone.state_dict(), start))
    weights = balanced(cases, labels)
    if recipe.head == "fitted":
        start_head(net, crops, labels, weights, recipe)
        hold_stages(net, recipe.frozen)
    began = {k: v.clone() for k, v in net.state_dict().items()}
    teacher = from_images.imagenet_network(start) if recipe.anchor and start is not None else None
    net = net.to(memory_format=torch.channels_last)

    def loss_of(net: nn.Module, generator: torch.Generator) -> torch.Tensor:
        chosen = torch.multinomial(weights, recipe.batch, replacement=True, generator=generator)
        images, targets = recipe.drawn(crops[chosen].float() / 255, labels[chosen], len(CLASSES), generator)
        inputs = preprocess.standardised(images).contiguous(memory_format=torch.channels_last)
        out = net(inputs)
        loss = disagreement(out.logits, targets)
        if teacher is not None:
            with torch.no_grad():
                wanted = teacher(inputs)
            loss = loss + recipe.anchor * F.mse_loss(out.embedding, wanted) / wanted.var()
        return loss

    trained = loop.train(net, loss_of, plan, on_save)
    with torch.no_grad():
        for key, value in trained.state_dict().items():
            if value.is_floating_point():
                value.lerp_(began[key], recipe.kept)
    return trained


def labels_of(cases: Sequence[data.Case], recipe: Recipe) -> torch.Tensor:
    """(n,) class indices; their number itself for what the recipe calls no more than abnormal."""
    is_open = recipe.tuberculosis == "abnormal"
    return torch.tensor([len(CLASSES) if is_open and c.label == "other" else data.label_of(c) for c in cases])


def start_head(
    net: nn.Module, crops: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, recipe: Recipe
) -> None:
    """The last layer begins as the linear reader of the untouched features; normalisation keeps its statistics."""
    assert isinstance(net, networks.Chest)
    _, embedding = scored(net.eval(), crops, recipe.side)
    reader = linear.fit(embedding, labels.numpy(), weights.numpy(), penalty=recipe.penalty, classes=len(CLASSES))
    slope = (reader.weights / reader.sd[:, None]).T
    with torch.no_grad():
        net.classifier.weight.copy_(torch.from_numpy(slope))
        net.classifier.bias.copy_(torch.from_numpy(reader.bias - slope @ reader.mean))
    net.holds_statistics = True


def hold_stages(net: nn.Module, stages: int) -> None:
    """Stem and first *stages* take no further part in training."""
    assert isinstance(net, networks.Chest)
    if stages:
        backbone: Any = net.backbone
        for part in (backbone.conv_stem, backbone.bn1, *backbone.blocks[:stages]):
            part.requires_grad_(False)


def balanced(cases: Sequence[data.Case], labels: torch.Tensor | None = None) -> torch.Tensor:
    """
    Drawing weights: classes alike, and within a class each source by the square root of its images.

    Args:
        labels: as `labels_of` gives them; what is called no more than abnormal weighs half a class.
    """
    known = [data.label_of(c) for c in cases] if labels is None else labels.tolist()
    counts = Counter((label, case.source) for label, case in zip(known, cases, strict=True))
    total = {label: sum(n**0.5 for (k, _), n in counts.items() if k == label) for label, _ in counts}
    weights = [
        (OPEN_WEIGHT if label == len(CLASSES) else 1.0) * counts[label, case.source] ** -0.5 / total[label]
        for label, case in zip(known, cases, strict=True)
    ]
    return torch.tensor(weights, dtype=torch.float64)


def cached(
    cases: Sequence[data.Case], lungs: Path, store: Path, view: View = "lungs"
) -> tuple[list[data.Case], torch.Tensor]:
    """The cases with plausible lungs and their (n, 1, side, side) uint8 crops, kept in *store* for the lung weights."""
    card, identity = read(lungs / "lungs.json")
    if store.exists():
        with np.load(store) as found:
            if str(found["weights"]) == identity.weights_sha256 and list(found["asked"]) == [c.image_id for c in cases]:
                usable = set(found["ids"].tolist())
                return [c for c in cases if c.image_id in usable], torch.from_numpy(found["crops"])
    net = loaded(card, load_file(lungs / "lungs.safetensors")).eval().to(memory_format=torch.channels_last)
    side = int(card.architecture["side"])
    kept: list[data.Case] = []
    crops: list[npt.NDArray[np.uint8]] = []
    for first in track(range(0, len(cases), AT_ONCE), f"cutting out lungs ({view})"):
        some = cases[first : first + AT_ONCE]
        pictures = [data.read_pixels(c.path) for c in some]
        squares = [preprocess.squared(p) for p in pictures]
        maps = lung_maps(net, squares, side, device=torch.device("cpu"), half=False)
        for case, picture, square, probability in zip(some, pictures, squares, maps, strict=True):
            rows, columns = picture.shape
            field = gate.lung_field(probability, columns / rows)
            if field.implausible is not None:
                continue
            image = preprocess.seen(square, field.mask, CACHED_SIDE, view).image
            kept.append(case)
            crops.append((image.clip(0, 1) * 255).round().astype(np.uint8))
    stacked = np.stack(crops)[:, None]
    np.savez(
        store,
        weights=identity.weights_sha256,
        asked=[c.image_id for c in cases],
        ids=[c.image_id for c in kept],
        crops=stacked,
    )
    return kept, torch.from_numpy(stacked)


def looking_at(cases: Sequence[data.Case], crops: torch.Tensor, side: int) -> Callable[[nn.Module], str | None]:
    """What to print of a network in training: areas and recalls on held-out cases."""
    labels = np.array([data.label_of(c) for c in cases])

    def look(net: nn.Module) -> str:
        probability = scored(net, crops, side)[0]
        areas = [auc(probability[:, k], labels == k) for k in range(len(CLASSES))]
        recalls = [float((probability[labels == k].argmax(1) == k).mean()) for k in np.unique(labels)]
        return (
            "held-out AUC " + " ".join(f"{a:.3f}" for a in areas) + " recall " + " ".join(f"{r:.2f}" for r in recalls)
        )

    return look


def scored(net: nn.Module, crops: torch.Tensor, side: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """(n, 3) uncalibrated probabilities and (n, features) embeddings of uint8 crops."""
    net.eval()
    logits, embeddings = [], []
    with torch.inference_mode():
        for part in torch.split(crops, 32):
            images = preprocess.standardised(resized(part.float() / 255, side))
            out = net(images.contiguous(memory_format=torch.channels_last))
            logits.append(out.logits.double())
            embeddings.append(out.embedding)
    return torch.softmax(torch.cat(logits), 1).numpy(), torch.cat(embeddings).numpy()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m models train chest` beyond those of every training."""
    parser.add_argument("--lungs", type=Path, default=WEIGHTS, help="folder of the lung weights that cut the crops")
    parser.add_argument("--licensed", action="store_true", help="only images that may be used commercially")
    parser.add_argument("--augmentation", choices=AUGMENTATIONS, default=Recipe.augmentation)
    parser.add_argument(
        "--tuberculosis", choices=TUBERCULOSIS, default=Recipe.tuberculosis, help="what Shenzhen's are shown as"
    )
    parser.add_argument("--side", type=int, default=Recipe.side)
    parser.add_argument(
        "--view", choices=("box", "lungs", "whole"), default=Recipe.view, help="what the classifier sees"
    )
    parser.add_argument("--reads", type=int, nargs="*", default=Recipe.reads, help="feature maps read; none: the last")
    parser.add_argument("--penalty", type=float, default=Recipe.penalty, help="of the linear reader it begins as")
    parser.add_argument("--kept", type=float, default=Recipe.kept, help="share of the start in the final weights")


def run(arguments: argparse.Namespace, plan: loop.Plan, how: Callable[[], Mapping[str, Any]]) -> None:
    """
    Train, calibrate on fold 0 and write weights and card into --out, the lung network beside them.

    Args:
        how: what the card says of the training, asked once it is over.
    """
    from models.training import cards

    recipe = Recipe(
        augmentation=arguments.augmentation,
        tuberculosis=arguments.tuberculosis,
        licensed=arguments.licensed,
        start="imagenet" if arguments.weights_from else "random",
        side=arguments.side,
        view=arguments.view,
        kept=arguments.kept,
        reads=tuple(arguments.reads),
        penalty=arguments.penalty,
        learning_rate=plan.learning_rate,
    )
    every = data.read_manifest(arguments.cxr)
    cases = data.chest_cases(every, held_out=False, licensed=arguments.licensed)
    held_out = data.chest_cases(every, held_out=True, licensed=arguments.licensed)
    if recipe.tuberculosis != "none":
        cases += [
            c for c in data.tuberculosis_cases(every, held_out=False) if c.is_commercial or not arguments.licensed
        ]
    kept, crops = cached(cases, arguments.lungs, plan.checkpoint.with_name("crops-train.npz"), recipe.view)
    kept_out, crops_out = cached(
        held_out, arguments.lungs, plan.checkpoint.with_name("crops-held-out.npz"), recipe.view
    )
    net = train(kept, crops, recipe, plan, arguments.weights_from, looking_at(kept_out, crops_out, recipe.side))
    for end in ("json", "safetensors"):
        if arguments.lungs != arguments.out:
            shutil.copyfile(arguments.lungs / f"lungs.{end}", arguments.out / f"lungs.{end}")
    cards.ship_chest(net, cases, held_out, arguments.out, {**how(), "recipe": asdict(recipe)})
