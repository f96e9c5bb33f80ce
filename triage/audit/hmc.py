"""Hamiltonian Monte Carlo of several chains as one batch: draws from a density known by its logarithm and gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import Floats

Density = Callable[[Floats], tuple[Floats, Floats]]
"""Points (chains, dimensions) to log densities (chains,), up to a constant, and gradients (chains, dimensions)."""

LENGTH = 3.0
"""Length of a trajectory, in standard deviations: about half a period of a direction a standard deviation wide."""
DIVERGENT = 1000.0
"""An error of the energy that no sound trajectory makes (Stan's limit; Betancourt, arXiv 1701.02434)."""
MOST_STEPS = 256
"""Most steps of one trajectory: bounds the time of early warm-up, when the step may still be far too small."""
WINDOWS = (0.1, 0.2, 0.4, 0.9)
"""Shares of warm-up between which scales are learnt, each window from its own draws alone; before and after only the
step is (as Stan's windows, shorter since all chains fill them)."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """
    Draws after warm-up, and how they came about.

    Attributes:
        draws: (chains, draws, dimensions).
        divergences: trajectories after warm-up whose energy went astray. 0 is right; any may mean that a part of the
            density was not reached.
        acceptance: mean probability of acceptance after warm-up: near the target if warm-up was long enough.
        step: step of the leapfrog, in units of `scale` (dimensions,).
        gradients: evaluations of the density, warm-up included.
    """

    draws: Floats
    divergences: int
    acceptance: float
    step: float
    scale: Floats
    gradients: int


def sample(
    density: Density,
    start: npt.ArrayLike,
    *,
    warmup: int = 500,
    draws: int = 1000,
    length: float = LENGTH,
    target: float = 0.8,
    seed: int = 1,
) -> Sampled:
    """
    Draw from a density (Neal, Handbook of Markov Chain Monte Carlo 2011, chapter 5).

    All chains take the same number of steps of the same size, so none waits for another as they would with NUTS. Step
    and scales are learnt by all chains together during warm-up and do not change after it.

    Args:
        density: log density and gradient of all chains at once; NaN or -inf is taken as density 0.
        start: (chains, dimensions) where each chain starts, best further apart than the density is wide.
        target: mean probability of acceptance to be reached by the step.
    Raises:
        ValueError: no chain, too short a warm-up, or a start where the density is 0 or NaN.
    """
    edges = [round(share * warmup) for share in WINDOWS]
    if edges[1] - edges[0] < 2 or draws < 1:
        raise ValueError(f"{warmup} draws of warm-up and {draws} after it: too few")
    chains = Chains(density, start, length, np.random.default_rng(seed))
    adapted = StepSize(0.1, target)
    window: list[tuple[Floats, Floats]] = []
    for n in range(warmup):
        acceptance, _ = chains.move(adapted.now)
        adapted.learn(float(acceptance.mean()))
        if edges[0] <= n < edges[-1]:
            window.append((chains.at, chains.gradient))
        if n + 1 in edges[1:]:
            chains.scale, window = scales(window), []
            adapted = StepSize(adapted.settled, target)
    kept = np.empty((draws, *chains.at.shape))
    divergences, accepted = 0, 0.0
    for n in range(draws):
        acceptance, is_divergent = chains.move(adapted.settled)
        kept[n] = chains.at
        divergences += int(is_divergent.sum())
        accepted += float(acceptance.mean()) / draws
    by_chain = kept.swapaxes(0, 1)
    return Sampled(by_chain, divergences, accepted, adapted.settled, chains.scale, chains.gradients)


class Chains:
    """Where all chains stand, and the one move they make together."""

    def __init__(self, density: Density, start: npt.ArrayLike, length: float, rng: np.random.Generator) -> None:
        self._density, self._length, self._rng = density, length, rng
        self.at = np.array(start, dtype=np.float64)
        if self.at.ndim != 2 or not self.at.size:
            raise ValueError(f"start: shape {self.at.shape}, not (chains, dimensions)")
        self._value, self.gradient = density(self.at)
        if not np.isfinite(self._value).all():
            raise ValueError(
                f"chain {np.flatnonzero(~np.isfinite(self._value))[0]} starts where the density is 0 or NaN"
            )
        self.scale = np.ones(self.at.shape[1])
        self.gradients = 1

    def move(self, step: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """
        One trajectory of leapfrog steps of every chain, which then takes its end or stays where it was.

        Its length is drawn anew within half of `length`, so that no direction is met again and again at the same phase
        of its period.

        Returns:
            (chains,) probability of acceptance, and whether the trajectory diverged.
        """
        length = self._length * self._rng.uniform(0.5, 1.5)
        steps = int(np.clip(np.ceil(length / step), 1, MOST_STEPS))
        momentum = self._rng.standard_normal(self.at.shape)
        before = self._value - (momentum**2).sum(axis=1) / 2
        at, gradient = self.at.copy(), self.gradient
        half, whole = step / 2 * self.scale, step * self.scale
        # a trajectory may run off to infinity: it is found at its end
        with np.errstate(all="ignore"):
            momentum += half * gradient
            for n in range(steps):
                at += whole * momentum
                value, gradient = self._density(at)
                momentum += (whole if n < steps - 1 else half) * gradient
            gain = value - (momentum**2).sum(axis=1) / 2 - before
        self.gradients += steps
        gain = np.where(np.isfinite(gain), gain, -np.inf)
        acceptance = np.exp(np.minimum(gain, 0))
        is_taken = self._rng.random(len(at)) < acceptance
        self.at = np.where(is_taken[:, None], at, self.at)
        self.gradient = np.where(is_taken[:, None], gradient, self.gradient)
        self._value = np.where(is_taken, value, self._value)
        return acceptance, gain < -DIVERGENT


class StepSize:
    """Dual averaging of the logarithm of the step (Hoffman & Gelman, JMLR 15, 2014, section 3.2, their constants)."""

    def __init__(self, first: float, target: float) -> None:
        self._towards, self._target = np.log(10 * first), target
        self._count, self._shortfall, self._averaged = 0, 0.0, float(np.log(first))
        self.now = first

    def learn(self, acceptance: float) -> None:
        """Take in the mean acceptance of one move."""
        self._count += 1
        self._shortfall += (self._target - acceptance - self._shortfall) / (self._count + 10)
        log_step = float(self._towards - np.sqrt(self._count) / 0.05 * self._shortfall)
        self._averaged += self._count**-0.75 * (log_step - self._averaged)
        self.now = float(np.exp(log_step))

    @property
    def settled(self) -> float:
        """The step to go on with once no more is learnt."""
        return float(np.exp(self._averaged))


def scales(window: list[tuple[Floats, Floats]]) -> Floats:
    """
    Scale of each dimension from points and gradients (chains, dimensions): the root of sd(point) / sd(gradient).

    The geometric mean of the spread seen and of the spread a normal density would have with such gradients: it settles
    sooner than the spread alone (nutpie's rule). Within chains, so that chains still apart, or in
    mirrored modes, do not widen it.
    """
    point, gradient = (np.array(part).var(axis=0).mean(axis=0) for part in zip(*window, strict=True))
    # a dimension nobody moved in, or without slope, keeps a scale that can be divided by
    found: Floats = ((point + 1e-12) / (gradient + 1e-12)) ** 0.25
    return found
