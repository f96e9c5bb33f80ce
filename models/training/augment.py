"""Augmentation of image batches on tensors: geometry, light, blur, noise, opacities, mixup, RICAP; all seeded."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def geometry(
    n: int,
    generator: torch.Generator,
    *,
    scale: float,
    aspect: float,
    degrees: float,
    shift: float,
    flip: float = 0.5,
) -> torch.Tensor:
    """(n, 2, 3) affine matrices, each output to input, as `F.affine_grid` wants them."""

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    zoom, stretch = torch.exp(uniform(math.log(scale))), torch.exp(uniform(math.log(aspect)))
    angle = uniform(math.radians(degrees))
    mirror = torch.where(torch.rand(n, generator=generator) < flip, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1], theta[:, 0, 2] = mirror * cos * zoom * stretch, -sin * zoom, uniform(shift)
    theta[:, 1, 0], theta[:, 1, 1], theta[:, 1, 2] = mirror * sin * zoom, cos * zoom / stretch, uniform(shift)
    return theta


def warp(images: torch.Tensor, theta: torch.Tensor, padding: str = "zeros") -> torch.Tensor:
    """The images seen through *theta*."""
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def light(images: torch.Tensor, generator: torch.Generator, strength: float = 1.0) -> torch.Tensor:
    """Gamma, contrast and brightness of images in [0, 1], each drawn per image."""
    n = images.shape[0]

    def uniform() -> torch.Tensor:
        return (torch.rand(n, 1, 1, 1, generator=generator) * 2 - 1) * strength

    gamma = torch.exp(uniform() * 0.6)
    curved = images.clamp(1e-4, 1) ** gamma
    return ((curved - 0.5) * torch.exp(uniform() * 0.35) + 0.5 + uniform() * 0.12).clamp(0, 1)


def degrade(images: torch.Tensor, generator: torch.Generator, coarsest: float = 0.35) -> torch.Tensor:
    """Some images lose sharpness (down and up again), some gain noise; sharpness must not tell the source."""
    n, _, rows, columns = images.shape
    out = images.clone()
    factor = coarsest + (1 - coarsest) * float(torch.rand(1, generator=generator))
    small = F.interpolate(images, scale_factor=factor, mode="bilinear", antialias=True, align_corners=False)
    soft = F.interpolate(small, size=(rows, columns), mode="bilinear", align_corners=False)
    chosen = torch.rand(n, generator=generator) < 0.5
    out[chosen] = soft[chosen]
    sigma = torch.rand(n, 1, 1, 1, generator=generator) * 0.05 * (torch.rand(n, 1, 1, 1, generator=generator) < 0.5)
    return out + sigma * torch.randn(out.shape, generator=generator)


def opacities(images: torch.Tensor, generator: torch.Generator, most: int = 3) -> torch.Tensor:
    """Bright soft blobs, as consolidation or a covering device would be: lungs stay lungs beneath them."""
    n, _, rows, columns = images.shape
    y = torch.linspace(0, 1, rows).view(1, 1, rows, 1)
    x = torch.linspace(0, 1, columns).view(1, 1, 1, columns)
    out = images
    for _ in range(most):
        r = torch.rand(5, n, 1, 1, 1, generator=generator)
        bell = torch.exp(-(((y - r[0]) / (0.05 + 0.2 * r[2])) ** 2) - ((x - r[1]) / (0.05 + 0.2 * r[3])) ** 2)
        weight = (0.7 * r[4] - 0.25).clamp(min=0) * bell
        out = out + weight * (1 - out)
    return out


def devices(images: torch.Tensor, generator: torch.Generator, most: int = 4) -> torch.Tensor:
    """
    Bright thin curves across some images, as leads and tubes are: intensive care must not read as a class.

    Args:
        images: (n, 1, rows, columns) in [0, 1].
        most: curves in one image; half the images get none.
    """
    n, _, rows, columns = images.shape
    y = torch.linspace(0, 1, rows).view(1, rows, 1)
    x = torch.linspace(0, 1, columns).view(1, 1, columns)
    out = images.clone()
    chosen = torch.rand(n, generator=generator) < 0.5
    for _ in range(most):
        r = torch.rand(7, n, 1, 1, generator=generator)
        along, across = (y, x) if float(torch.rand(1, generator=generator)) < 0.6 else (x, y)
        path = r[0] + 0.6 * (r[1] - 0.5) * along + 0.25 * (r[2] - 0.5) * torch.sin(6.3 * (along * (0.4 + r[3]) + r[4]))
        line = torch.exp(-(((across - path) / (0.004 + 0.006 * r[5])) ** 2)) * (0.15 + 0.35 * r[6])
        drawn = (torch.rand(n, 1, 1, generator=generator) < 0.6) & chosen.view(n, 1, 1)
        line = (line * drawn)[:, None]
        out = out + line * (1 - out)
    return out


def spoil(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What is no upright radiograph: turned, inverted, noise, scrambled tiles or a flat picture; one kind per image."""
    out = []
    for image in images:
        kind = int(torch.randint(0, 7, (1,), generator=generator))
        match kind:
            case 0:
                out.append(torch.rot90(image, 1, (1, 2)))
            case 1:
                out.append(torch.rot90(image, -1, (1, 2)))
            case 2:
                out.append(torch.rot90(image, 2, (1, 2)))
            case 3 | 4:
                out.append(1 - image)
            case 5:
                coarse = int(torch.randint(4, image.shape[-1] + 1, (1,), generator=generator))
                noise = torch.rand(1, 1, coarse, coarse, generator=generator)
                out.append(F.interpolate(noise, size=image.shape[-2:], mode="bilinear", align_corners=False)[0])
            case _:
                side = image.shape[-1] // 4
                tiles = image.unfold(1, side, side).unfold(2, side, side).reshape(16, side, side)
                tiles = tiles[torch.randperm(16, generator=generator)].reshape(4, 4, side, side)
                out.append(tiles.permute(0, 2, 1, 3).reshape(1, 4 * side, 4 * side))
    return torch.stack(out)


def mixup(
    images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator, alpha: float = 0.4
) -> tuple[torch.Tensor, torch.Tensor]:
    """Zhang et al. 2018: convex pairs of images and of their targets, one weight per pair."""
    n = images.shape[0]
    a = torch._standard_gamma(torch.full((n,), alpha), generator=generator)
    b = torch._standard_gamma(torch.full((n,), alpha), generator=generator)
    weight = torch.maximum(a, b) / (a + b).clamp(min=1e-6)
    other = torch.randperm(n, generator=generator)
    w = weight.view(n, 1, 1, 1)
    return w * images + (1 - w) * images[other], weight[:, None] * targets + (1 - weight[:, None]) * targets[other]


def ricap(
    images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator, beta: float = 0.3
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Random image cropping and patching (Takahashi et al. 2018): four images share one frame, targets by area.

    Each patch keeps its place in the frame, so an upper left lung field stays an upper left lung field: crops are
    registered to the lungs, and anatomy tells the classes apart.

    Args:
        images: (n, 1, rows, columns).
        targets: (n, classes).
        beta: of the symmetric beta distribution that draws the meeting point of the four patches.
    """
    n, _, rows, columns = images.shape
    a, b = torch._standard_gamma(torch.full((2, 2), beta), generator=generator)
    down, across = (a / (a + b).clamp(min=1e-6)).tolist()
    r, c = round(down * rows), round(across * columns)
    out, mixed = torch.empty_like(images), torch.zeros_like(targets)
    for top, bottom in ((0, r), (r, rows)):
        for left, right in ((0, c), (c, columns)):
            other = torch.randperm(n, generator=generator)
            out[:, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
            mixed = mixed + (bottom - top) * (right - left) / (rows * columns) * targets[other]
    return out, mixed
