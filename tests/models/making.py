"""Drawn radiographs."""

import numpy as np
from scipy import ndimage


def draw_chest(rows: int = 400, columns: int = 420, seed: int = 0) -> np.ndarray:
    """A phantom: neck, shoulders, two dark lungs over diaphragm domes, ribs, clavicles, spine, heart, vessels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns]
    y, x = (y + 0.5) / rows, (x + 0.5) / columns
    away = np.abs(x - 0.5)
    body = 1 / (1 + np.exp((away - 0.14 - 0.33 / (1 + np.exp(-(y - 0.08) * 22))) * 60))
    air = np.zeros_like(y)
    for side in (-1, 1):
        across = (x - 0.5) * side
        centre, half = 0.135 + 0.09 * y, 0.06 + 0.17 * np.clip(y - 0.06, 0, None) ** 0.6
        half = np.minimum(half, 0.15)
        dome = 0.78 + 0.6 * (across - 0.2) ** 2 - (0.03 if side < 0 else 0.0)
        inside = 1 / (1 + np.exp((np.abs(across - centre) - half) * 110))
        inside *= 1 / (1 + np.exp((0.11 + 6 * (across - 0.15) ** 2 - y) * 60)) / (1 + np.exp((y - dome) * 90))
        air = np.maximum(air, inside)
    heart = np.exp(-((((x - 0.55) / 0.12) ** 2 + ((y - 0.64) / 0.15) ** 2) ** 2))
    spine = np.exp(-((away / 0.045) ** 4)) * (0.9 + 0.1 * np.sin(y * 90))
    hila = sum(np.exp(-(((x - c) / 0.035) ** 2 + ((y - 0.45) / 0.07) ** 2)) for c in (0.4, 0.6))
    ribs = np.clip(np.sin((y + 0.55 * (away - 0.2) ** 2 * 6 + 0.25 * away) * 52), 0, 1) ** 0.7
    clavicle = np.exp(-(((y - 0.16 + 0.12 * (away - 0.2)) / 0.014) ** 2)) * (away > 0.05) * (away < 0.34)
    vessels = ndimage.gaussian_filter(rng.standard_normal(y.shape), rows / 90)
    vessels *= 0.035 / vessels.std()
    absorbed = 1.25 + 0.35 * y - 0.95 * air * (1 - 0.75 * heart) + 0.28 * spine + 0.35 * heart * (1 - air)
    absorbed += air * (0.16 * ribs + 0.22 * hila + vessels) + 0.16 * clavicle - 0.6 * np.clip(away - 0.36, 0, 1)
    picture = ndimage.gaussian_filter(body * absorbed / 2, rows / 250) + 0.006 * rng.standard_normal(y.shape)
    return np.clip(picture, 0, 1).astype(np.float32)
