"""
A statistical generator of chest radiographs: mean anatomy, how it varies in shape and in brightness, and fine texture.

Active appearance model (Cootes, Edwards and Taylor, IEEE TPAMI 2001): every image is registered to a common template;
displacements and aligned brightness then vary about their class mean by principal components, drawn as Gaussians. What
the components leave out comes back as random texture with the measured spectrum and local strength. Ribs, clavicles
and vessels, which averaging wipes out because they never coincide, are drawn by code in the template's frame. No
network, no classifier and no mask takes part; a "clear" draw is one that the generator's own linear discriminant
places well.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from scipy import ndimage
from torch.nn import functional

Floats = npt.NDArray[np.float32]

CLASSES = ("normal", "pneumonia", "covid")
FRAME = (384, 432)
"""Rows and columns of the model's frame; chest films here are about 1.1 to 1.2 times wider than high."""
DISTANCE_SIDE = 64
PERMITTED_LICENCES = ("unrestricted-with-attribution", "attribution")
"""Licence classes that permit commercial use; Shenzhen's "research-use-with-attribution" does not say so."""
SOURCES = ("nih_cxr14", "hannover")
"""The sources with one licence for all their images; journal figures differ from row to row and are left out."""
MINIMUM_AGE = 18
KEPT_FRACTION = 0.55
"""Part of each class, the best aligned to the template, that its model is fitted on."""
SHAPE_COMPONENTS, BRIGHTNESS_COMPONENTS = 14, 40
LONGEST_GRAIN = 20.0
"""Pixels: texture of a longer wavelength belongs to anatomy and is left to the components."""


@dataclass(frozen=True)
class TrainingImage:
    """One permitted row of the radiographs' manifest, and its pixels."""

    image_id: str
    source: str
    licence: str
    patient_id: str
    label: str
    pixels: Floats
    """(384, 432) float32, its histogram not yet matched."""


def training_images(folder: Path) -> list[TrainingImage]:
    """Frontal development images of adults whose licence permits commercial use, in the manifest's order."""
    with (folder / "manifest.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if is_permitted(row)]
    return [
        TrainingImage(
            row["image_id"], row["source"], row["licence"], row["patient_id"], row["label"], _read(folder / row["file"])
        )
        for row in rows
    ]


def is_permitted(row: Mapping[str, str]) -> bool:
    """True where the manifest *row* may shape a picture that this project gives away; unknown age is taken as adult."""
    return (
        row["role"] == "dev"
        and row["licence_class"] in PERMITTED_LICENCES
        and row["source"] in SOURCES
        and row["label"] in CLASSES
        and row["view"] in ("AP", "PA")
        and (not row["age"] or float(row["age"]) >= MINIMUM_AGE)
    )


def _read(path: Path) -> Floats:
    with Image.open(path) as picture:
        frame = picture.convert("L").resize((FRAME[1], FRAME[0]), Image.Resampling.BICUBIC)
    return np.asarray(frame, dtype=np.float32)


def distance_vectors(images: Iterable[Floats]) -> Floats:
    """
    The form in which images are compared: 64 x 64, mean 0, standard deviation 1.

    Returns:
        (n, 4096) float32; the distance of two rows is the root mean square of their difference, 0 to 2.
    """
    vectors = []
    for image in images:
        small = Image.fromarray(image.astype(np.float32)).resize((DISTANCE_SIDE,) * 2, Image.Resampling.BOX)
        vector = np.asarray(small, dtype=np.float32).ravel()
        vectors.append((vector - vector.mean()) / (vector.std() + 1e-6))
    return np.stack(vectors)


def distances(left: Floats, right: Floats) -> Floats:
    """Root mean square differences of every row of *left* (n, d) to every row of *right* (m, d): (n, m) float32."""
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2 * left @ right.T
    return np.asarray(np.sqrt(np.maximum(squares, 0) / left.shape[1]), dtype=np.float32)


# Registration -------------------------------------------------------------------------------------------------------


def _identity(shape: tuple[int, int]) -> torch.Tensor:
    rows = torch.linspace(-1, 1, shape[0])
    columns = torch.linspace(-1, 1, shape[1])
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], -1)[None]


def _field(control: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Control displacements (n, 2, a, b) to a smooth field (n, rows, columns, 2), in units of half the frame."""
    return functional.interpolate(control, shape, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)


def warp(images: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """Read *images* (n, rows, columns) at every grid point displaced by *field* (n, rows, columns, 2)."""
    grid = _identity((field.shape[1], field.shape[2])) + field
    read = functional.grid_sample(images[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True)
    return read[:, 0]


def local_correlation(left: torch.Tensor, right: torch.Tensor, window: int) -> torch.Tensor:
    """Mean squared correlation in windows of *window* pixels, one number an image of (n, rows, columns)."""

    def mean(image: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(image[:, None], window, stride=2)

    left_mean, right_mean = mean(left), mean(right)
    covariance = mean(left * right) - left_mean * right_mean
    left_variance = mean(left * left) - left_mean**2
    right_variance = mean(right * right) - right_mean**2
    correlation = covariance * covariance.abs() / ((left_variance + 1e-3) * (right_variance + 1e-3))
    return correlation.mean((1, 2, 3))


def register(
    images: torch.Tensor, template: torch.Tensor, control: torch.Tensor, steps: int, window: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Bend every image onto *template*, starting from *control*.

    Args:
        images: (n, rows, columns) float32, standardised.
        template: (rows, columns).
        control: (n, 2, a, b) displacements of control points, in units of half the frame.
    Returns:
        the improved control displacements, and each image's local correlation with the template, (n,).
    """
    shape = (images.shape[1], images.shape[2])
    found, scores = [], []
    for start in range(0, len(images), 64):
        batch = images[start : start + 64]
        points = control[start : start + 64].clone().requires_grad_()
        optimiser = torch.optim.Adam([points], lr=0.006)
        target = template[None].expand(len(batch), -1, -1)
        correlation = torch.zeros(len(batch))
        for _ in range(steps):
            optimiser.zero_grad()
            correlation = local_correlation(warp(batch, _field(points, shape)), target, window)
            loss = -correlation.sum() + 4.0 * _roughness(points)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        found.append(points.detach())
        scores.append(correlation.detach())
    return torch.cat(found), torch.cat(scores)


def _roughness(points: torch.Tensor) -> torch.Tensor:
    """How far neighbouring control points disagree, relative to their spacing; keeps the warp free of folds."""
    rows, columns = points.shape[2], points.shape[3]
    down = (points.diff(dim=2) * rows / 2) ** 2
    across = (points.diff(dim=3) * columns / 2) ** 2
    return down.mean((1, 2, 3)).sum() + across.mean((1, 2, 3)).sum()


def align(images: Floats, labels: Sequence[str]) -> tuple[Floats, npt.NDArray[np.intp], Floats]:
    """
    Groupwise registration from coarse to fine; the badly aligned part of each class falls out on the way.

    Args:
        images: (n, 384, 432), histograms matched, in [0, 1].
    Returns:
        displacement fields of the kept images at a quarter of the frame, (m, 96, 108, 2); their indices (m,); and
        the aligned images, (m, 384, 432).
    """
    kept = np.arange(len(images))
    control = torch.zeros(len(images), 2, 4, 4)
    schedule = [(8, 4, 25, 11), (4, 7, 30, 15), (4, 12, 30, 11), (2, 22, 22, 15)]  # shrink, points, steps, window
    for round_number, (shrink, points, steps, window) in enumerate(schedule):
        shape = (FRAME[0] // shrink, FRAME[1] // shrink)
        small = functional.interpolate(torch.from_numpy(images[kept])[:, None], shape, mode="area")[:, 0]
        small = (small - small.mean((1, 2), keepdim=True)) / small.std((1, 2), keepdim=True)
        control = functional.interpolate(control, (points, points), mode="bicubic", align_corners=True)
        template = torch.cat([warp(part, _field(c, shape)) for part, c in _batches(small, control)]).mean(0)
        control, scores = register(small, template, control, steps, window)
        control -= control.mean(0, keepdim=True)
        if round_number == 1:
            best = _best_of_each_class(scores.numpy(), [labels[int(i)] for i in kept])
            kept, control = kept[best], control[torch.from_numpy(best)]
    quarter = _field(control, (FRAME[0] // 4, FRAME[1] // 4)).numpy()
    chosen = torch.from_numpy(images[kept])
    aligned = torch.cat([warp(part, _field(c, FRAME)) for part, c in _batches(chosen, control)])
    return quarter, kept, aligned.numpy()


def _batches(images: torch.Tensor, control: torch.Tensor) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    for start in range(0, len(images), 64):
        yield images[start : start + 64], control[start : start + 64]


def _best_of_each_class(scores: Floats, labels: Sequence[str]) -> npt.NDArray[np.intp]:
    chosen: list[int] = []
    for label in CLASSES:
        members = np.array([i for i, other in enumerate(labels) if other == label])
        order = members[np.argsort(-scores[members], kind="stable")]
        chosen.extend(order[: max(8, int(len(members) * KEPT_FRACTION))].tolist())
    return np.array(sorted(chosen))


# The model ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassModel:
    """
    How the images of one class vary about their mean.

    Attributes:
        shape_mean, shape_axes: (96, 108, 2) and (k, 96, 108, 2); axes are scaled to one standard deviation.
        brightness_mean, brightness_axes: (384, 432) and (k, 384, 432), in the template's frame; scaled likewise.
        spectrum: (384, 217) amplitude of the residual's fine texture, the same in all directions (real transform).
        strength: (384, 432) local standard deviation of the residual.
        discriminant_mean, discriminant_axes: how clearly the mean, and each brightness axis, belongs to the class.
    """

    shape_mean: Floats
    shape_axes: Floats
    brightness_mean: Floats
    brightness_axes: Floats
    spectrum: Floats
    strength: Floats
    discriminant_mean: float
    discriminant_axes: Floats


@dataclass(frozen=True)
class Generator:
    """The fitted model of every class and what is common to them."""

    classes: Mapping[str, ClassModel]
    histogram: Floats
    """(256,) brightness by rank, averaged over all training images; in [0, 1]."""
    image_ids: tuple[str, ...]
    """The images the models were fitted on."""


def match_histogram(image: Floats, histogram: Floats) -> Floats:
    """Give *image* (rows, columns) the brightness-by-rank curve *histogram* (256,), keeping the order of its pixels."""
    own = np.quantile(image, np.linspace(0, 1, 256)).astype(np.float32)
    ranks = np.interp(image, np.maximum.accumulate(own + np.arange(256) * 1e-7), np.linspace(0, 1, 256))
    return np.asarray(np.interp(ranks, np.linspace(0, 1, 256), histogram), dtype=np.float32)


def fit(images: Sequence[TrainingImage]) -> Generator:
    """Fit the generator on *images*; the same images give the same generator on the same machine."""
    torch.manual_seed(0)
    curves = [np.quantile(_stretched(image.pixels), np.linspace(0, 1, 256)) for image in images]
    histogram = np.mean(curves, axis=0).astype(np.float32)
    matched = np.stack([match_histogram(image.pixels, histogram) for image in images])
    fields, kept, aligned = align(matched, [image.label for image in images])
    labels = np.array([images[i].label for i in kept])
    directions = _discriminants(aligned, labels)
    classes = {
        label: _fit_class(fields[labels == label], aligned[labels == label], directions[label]) for label in CLASSES
    }
    return Generator(classes, histogram, tuple(images[i].image_id for i in kept))


def _stretched(pixels: Floats) -> Floats:
    low, high = np.percentile(pixels, [1, 99])
    return np.asarray(np.clip((pixels - low) / (high - low + 1e-6), 0, 1), dtype=np.float32)


def principal_axes(data: Floats, count: int) -> tuple[Floats, Floats, Floats]:
    """
    Mean, axes and residual of the rows of *data* (n, d).

    Returns:
        (d,) mean; (k, d) principal axes, each as long as the standard deviation along it; (n, d) what they leave out.
    """
    mean = data.mean(0)
    centred = data - mean
    values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64) / (len(data) - 1))
    order = np.argsort(-values)[: min(count, len(data) - 1)]
    unit = (vectors[:, order].T @ centred) / np.sqrt(values[order] * (len(data) - 1))[:, None]
    unit = unit.astype(np.float32)
    residual = centred - (centred @ unit.T) @ unit
    return mean, unit * np.sqrt(values[order]).astype(np.float32)[:, None], residual


def _fit_class(fields: Floats, aligned: Floats, direction: Floats) -> ClassModel:
    shape_mean, shape_axes, _ = principal_axes(fields.reshape(len(fields), -1), SHAPE_COMPONENTS)
    # Wires, letters and implants are rare at any one place: two deviations hold anatomy and shed them.
    middle, spread = np.median(aligned, axis=0), aligned.std(0)
    sober = np.clip(aligned, middle - 2.0 * spread, middle + 2.0 * spread).reshape(len(aligned), -1)
    mean, axes, residual = principal_axes(sober, min(BRIGHTNESS_COMPONENTS, len(aligned) // 5))
    residual = residual.reshape(-1, *FRAME)
    strength = ndimage.gaussian_filter(residual.std(0), 6).astype(np.float32)
    power = np.mean([np.abs(np.fft.rfft2(image / (strength + 1e-4))) ** 2 for image in residual], axis=0)
    return ClassModel(
        shape_mean.reshape(fields.shape[1:]),
        shape_axes.reshape(-1, *fields.shape[1:]),
        mean.reshape(FRAME),
        axes.reshape(-1, *FRAME),
        _isotropic(power),
        strength,
        float(_shrunk(mean.reshape(1, *FRAME))[0] @ direction),
        (_shrunk(axes.reshape(-1, *FRAME)) @ direction).astype(np.float32),
    )


def _isotropic(power: npt.NDArray[np.float64]) -> Floats:
    """Amplitude by length of the spatial frequency, averaged over its direction; long wavelengths fade to nothing."""
    frequency = np.hypot(np.fft.fftfreq(FRAME[0])[:, None], np.fft.rfftfreq(FRAME[1])[None])
    ring = np.minimum((frequency * 400).astype(int), 199)
    mean = np.bincount(ring.ravel(), power.ravel(), 200) / np.maximum(np.bincount(ring.ravel(), minlength=200), 1)
    fade = 1 - np.exp(-((frequency * LONGEST_GRAIN) ** 4))
    return np.asarray(np.sqrt(mean[ring]) * fade, dtype=np.float32)


def _shrunk(images: Floats) -> Floats:
    """(n, 384, 432) to (n, 48 * 54): the resolution at which the discriminant looks."""
    rows, columns = FRAME[0] // 8, FRAME[1] // 8
    blocks = images.reshape(len(images), rows, 8, columns, 8).mean((2, 4))
    return np.asarray(blocks.reshape(len(images), -1), dtype=np.float32)


def _discriminants(aligned: Floats, labels: npt.NDArray[np.str_]) -> dict[str, Floats]:
    """Fisher's direction of every class against the other two, with a shrunk within-class covariance."""
    small = _shrunk(aligned)
    means = {label: small[labels == label].mean(0) for label in CLASSES}
    within = small - np.stack([means[label] for label in labels])
    covariance = (within.T @ within / len(within)).astype(np.float64)
    covariance += np.eye(len(covariance)) * np.trace(covariance) / len(covariance) * 2.0
    found = {}
    for label in CLASSES:
        others = np.mean([means[other] for other in CLASSES if other != label], axis=0)
        found[label] = np.linalg.solve(covariance, means[label] - others).astype(np.float32)
    return found


# Drawing ------------------------------------------------------------------------------------------------------------


def draw(
    generator: Generator, label: str, random: np.random.Generator, *, candidates: int = 60, spread: float = 0.85
) -> Floats:
    """
    Draw one radiograph of class *label*.

    Of *candidates* brightness vectors, drawn with *spread* times the fitted deviation, one of the clearest tenth by
    the generator's own discriminant is taken.

    Returns:
        (384, 432) float32 in [0, 1], higher is brighter.
    """
    model = generator.classes[label]
    latent = random.normal(0, spread, (candidates, len(model.brightness_axes))).astype(np.float32)
    clearest = np.argsort(-(latent @ model.discriminant_axes))[: max(1, candidates // 10)]
    weights = latent[random.choice(clearest)]
    brightness = model.brightness_mean + np.tensordot(weights, model.brightness_axes, 1)
    brightness = ndimage.gaussian_filter(brightness, 1.5) + 0.4 * _texture(model, random) + drawn_anatomy(model, random)
    bends = random.normal(0, spread, len(model.shape_axes)).astype(np.float32)
    field = model.shape_mean + np.tensordot(bends, model.shape_axes, 1)
    return match_histogram(_unwarp(brightness.astype(np.float32), field), generator.histogram)


def _texture(model: ClassModel, random: np.random.Generator) -> Floats:
    noise = np.fft.rfft2(random.normal(0, 1, FRAME)) / np.sqrt(FRAME[0] * FRAME[1])
    grain = np.fft.irfft2(noise * model.spectrum, FRAME)
    return np.asarray(grain * model.strength, dtype=np.float32)


def _unwarp(image: Floats, field: Floats) -> Floats:
    """Carry *image* from the template's frame to the drawn shape: the inverse of *field*, found by fixed point."""
    full = functional.interpolate(
        torch.from_numpy(field.astype(np.float32)).permute(2, 0, 1)[None], FRAME, mode="bicubic", align_corners=True
    )
    inverse = torch.zeros(1, *FRAME, 2)
    for _ in range(12):
        grid = _identity(FRAME) + inverse
        inverse = -functional.grid_sample(full, grid, padding_mode="border", align_corners=True).permute(0, 2, 3, 1)
    known = ((_identity(FRAME) + inverse).abs() <= 1).all(-1)[0].numpy()
    top, bottom, left, right = _largest_known(known)
    picture = warp(torch.from_numpy(image)[None], inverse)[0].numpy()[top:bottom, left:right]
    return np.asarray(Image.fromarray(picture).resize((FRAME[1], FRAME[0]), Image.Resampling.BICUBIC))


def _largest_known(known: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Collimate: give up the worst edge of *known* (rows, columns) until no unknown pixel is left inside."""
    top, bottom, left, right = 0, known.shape[0], 0, known.shape[1]
    while not known[top:bottom, left:right].all():
        inside = ~known[top:bottom, left:right]
        worst = int(np.argmax([inside[0].mean(), inside[-1].mean(), inside[:, 0].mean(), inside[:, -1].mean()]))
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    return top, bottom, left, right


# Bones and vessels, in the template's frame ---------------------------------------------------------------------------

MIDLINE = 216
LUNG_EDGE = ((40, 20), (55, 52), (75, 86), (96, 114), (144, 138), (192, 147), (240, 154), (288, 159), (384, 163))
"""Row of the template, and the distance of the chest wall's inner edge from the midline there, in pixels."""
HILA = ((-42, 160), (36, 150))
"""Columns from the midline, and rows, from which the vessels spread."""


def drawn_anatomy(model: ClassModel, random: np.random.Generator) -> Floats:
    """Ribs, clavicles, discs and vessels for one draw: (384, 432) float32 to add to the brightness."""
    smooth = ndimage.gaussian_filter(model.brightness_mean, 3)
    wall = np.interp(np.arange(FRAME[0]), *np.transpose(LUNG_EDGE))[:, None]
    across = np.abs(np.arange(FRAME[1]) - MIDLINE)[None]
    inside = np.clip((wall - across) / 6, 0, 1)
    lung = np.clip((0.78 - smooth) / 0.3, 0, 1) * inside
    bones = _ribs(random) * (0.25 + 0.75 * lung) * np.clip((wall + 10 - across) / 8, 0, 1)
    picture = 0.12 * bones + 0.09 * _clavicles(random) + 0.02 * _discs(random) + 0.12 * _vessels(random) * lung
    return np.asarray(picture, dtype=np.float32)


def _ribs(random: np.random.Generator) -> Floats:
    """Posterior ribs from the spine outwards and, fainter, anterior ribs back towards the sternum."""
    picture = np.zeros(FRAME, dtype=np.float32)
    step, start = random.normal(21.5, 0.5), random.normal(44, 2)
    for side in (-1, 1):
        for number in range(10):
            root = start + step * number + random.normal(0, 1.2)
            fall = 16 + 2.2 * number + random.normal(0, 2)
            wall = float(np.interp(root + fall, *np.transpose(LUNG_EDGE)))
            t = np.linspace(0.1, 1.02, 40)
            rows = root - 9 * np.sin(np.pi * np.minimum(t * 1.3, 1)) * (1 - t) + fall * t**2.4
            picture += _band(MIDLINE + side * wall * t, rows, random.normal(9.5, 0.5), 1.0)
            angle, reach = np.linspace(0, np.pi / 2, 40), random.normal(44 + 2 * number, 3)
            columns = MIDLINE + side * wall * (0.42 + 0.6 * np.cos(angle))
            picture += _band(columns, root + fall + reach * np.sin(angle), random.normal(9, 0.5), 0.55)
    return np.asarray(np.clip(picture, 0, 1.6), dtype=np.float32)


def _clavicles(random: np.random.Generator) -> Floats:
    picture = np.zeros(FRAME, dtype=np.float32)
    for side in (-1, 1):
        t = np.linspace(0, 1, 40)
        rows = random.normal(66, 2) - 16 * t - 5 * np.sin(2 * np.pi * t) + random.normal(0, 3) * t
        picture += _band(MIDLINE + side * (16 + 118 * t), rows, random.normal(11, 0.6), 1.0)
    return picture


def _discs(random: np.random.Generator) -> Floats:
    """The gaps between vertebrae: faint darker bars across the spine."""
    picture = np.zeros(FRAME, dtype=np.float32)
    for row in np.arange(random.uniform(5, 25), FRAME[0], random.normal(22, 0.5)):
        columns = np.array([MIDLINE - 13.0, MIDLINE + 13.0])
        picture -= _band(columns, np.array([row, row]), 4, 1.0)
    return picture


def _band(columns: npt.ArrayLike, rows: npt.ArrayLike, width: float, weight: float) -> Floats:
    """A bone seen flat: a band with brighter edges along the given points; (384, 432) in [0, *weight*]."""
    points = [(2 * float(x), 2 * float(y)) for x, y in zip(np.asarray(columns), np.asarray(rows), strict=True)]
    canvas = Image.new("L", (2 * FRAME[1], 2 * FRAME[0]))
    pen = ImageDraw.Draw(canvas)
    pen.line(points, fill=255, width=round(2 * width), joint="curve")
    pen.line(points, fill=120, width=round(2 * width) - 6, joint="curve")
    small = np.asarray(canvas.resize((FRAME[1], FRAME[0]), Image.Resampling.BOX), dtype=np.float32) / 255
    return np.asarray(ndimage.gaussian_filter(small, 1.0) * weight, dtype=np.float32)


def _vessels(random: np.random.Generator) -> Floats:
    """Arteries branching from both hila towards the chest wall, thinner and fainter with every fork."""
    canvas = Image.new("L", (2 * FRAME[1], 2 * FRAME[0]))
    pen = ImageDraw.Draw(canvas)

    def grow(x: float, y: float, heading: float, width: float) -> None:
        while width > 0.55:
            length = random.uniform(4, 8)
            ahead = x + length * np.cos(heading), y + length * np.sin(heading)
            shade = int(90 + 35 * min(width, 4))
            pen.line([(2 * x, 2 * y), (2 * ahead[0], 2 * ahead[1])], fill=shade, width=max(1, round(2 * width)))
            x, y = ahead
            heading += random.normal(0, 0.13)
            width *= random.uniform(0.92, 0.97)
            if random.random() < 0.22:
                turn = random.choice([-1, 1]) * random.uniform(0.4, 0.9)
                grow(x, y, heading + turn, width * random.uniform(0.6, 0.8))
                heading -= turn * 0.3

    for offset, row in HILA:
        outwards = 0.0 if offset > 0 else np.pi
        for spread in np.linspace(-1.3, 1.3, 7):
            turn = spread + random.normal(0, 0.1)
            grow(MIDLINE + offset, row, outwards + (turn if offset > 0 else -turn), random.uniform(3.2, 4.6))
    small = np.asarray(canvas.resize((FRAME[1], FRAME[0]), Image.Resampling.BOX), dtype=np.float32) / 255
    return np.asarray(ndimage.gaussian_filter(small, 1.2), dtype=np.float32)
