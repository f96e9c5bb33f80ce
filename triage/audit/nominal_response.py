"""The multidimensional nominal response model of a reader study: its probabilities, log posterior and gradient."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import Floats
from triage.audit.nominal_readings import Readings

PRIOR_SD = 2.0


class NominalResponse:
    """
    Log posterior of MDNRM: P(reader i chooses k for case j) = softmax_k(theta_i[t_j, k] - beta_j[k]), all N(0, sd 2),
    t_j being the true class (the model that Nishio & Ota, PeerJ Computer Science 2024, e2380, extend).

    With two modalities theta of "with" is theta_i + Delta + u_i, Delta ~ N(0, 2), u_i = s z_i with z_i and s ~ N(0, 1):
    the non-centred form of u_i ~ N(0, tau), tau = |s| ~ HalfNormal(1). With log tau for s, a trajectory from a poor
    start could run far down to where nothing draws it back; s and z may change sign together, u and tau do not.

    The softmax does not see the mean of a row, whose posterior therefore is its prior and independent of all else. So
    a row stands here as its classes - 1 coordinates in an orthonormal basis of the rows of mean 0 (again N(0, 2)): the
    same posterior of everything data speak of, in two thirds of the dimensions, and far rounder. And theta stands as
    its distance from the mean beta of the cases of that class, as both would rise and fall together.

    Every softmax is e^theta e^-beta / sum of the same: sums over cases and sums over readers are matrix products, and
    exponentials are taken of parameters, not of readings.
    """

    def __init__(self, of: Readings) -> None:
        modalities, readers, cases, classes = of.chosen.shape
        self._basis = np.linalg.qr(np.column_stack([np.ones(classes), np.eye(classes)[:, 1:]]))[0][:, 1:]
        rows = (classes, classes - 1)
        # the parameters in the order they stand in a point, cases ordered by true class
        self._shapes: dict[str, tuple[int, ...]] = {"theta": (readers, *rows), "beta": (cases, classes - 1)}
        if modalities == 2:
            self._shapes |= {"delta": rows, "z": (readers, *rows), "s": ()}
        # the prior of theta is not that of its coordinates: 0 here, and added where theta is known
        sd = {"theta": np.inf, "beta": PRIOR_SD, "delta": PRIOR_SD, "z": 1.0, "s": 1.0}
        self._precision = np.concatenate([np.full(prod(shape), sd[n] ** -2) for n, shape in self._shapes.items()])
        order = np.argsort(of.truth, kind="stable")
        self._back = np.argsort(order, kind="stable")
        ends = np.searchsorted(of.truth[order], np.arange(classes + 1))
        self._of_class = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        chosen = of.chosen[:, :, order].reshape(modalities * readers, cases, classes)
        is_class = of.truth[order] == np.arange(classes)[:, None]
        self._mean = is_class / np.maximum(is_class.sum(axis=1, keepdims=True), 1)
        self._is_made: Floats = np.any(chosen, axis=-1).astype(np.float64)
        self._by_row = of.counts.reshape(-1, classes, classes).astype(np.float64)
        self._by_case = chosen.sum(axis=0).astype(np.float64)

    @property
    def dimensions(self) -> int:
        """How many numbers a point has."""
        return len(self._precision)

    def parameters(self, points: Floats) -> dict[str, Floats]:
        """
        What is drawn, by name and with rows of mean 0, from points (..., dimensions).

        Returns:
            theta (..., modalities, readers, classes, classes), beta (..., cases, classes); with two modalities also
            delta (..., classes, classes), u (..., readers, classes, classes) and tau (...).
        """
        part = self._parts(points)
        found = {"theta": self._rows(self._abilities(part)), "beta": self._rows(part["beta"][..., self._back, :])}
        if "delta" in part:
            u = part["s"][..., None, None, None] * part["z"]
            found |= {"delta": self._rows(part["delta"]), "u": self._rows(u), "tau": np.abs(part["s"])}
        return found

    def __call__(self, points: Floats) -> tuple[Floats, Floats]:
        """
        Log posterior up to a constant, and its gradient.

        Args:
            points: (chains, dimensions).
        Returns:
            (chains,) and (chains, dimensions).
        """
        part = self._parts(points)
        gradient = -self._precision * points
        value = 0.5 * np.einsum("cd,cd->c", gradient, points)
        into = self._parts(gradient)
        abilities = self._abilities(part)
        likelihood, by_theta, by_beta = self._likelihood(abilities, part["beta"])
        theta = abilities[:, 0]
        value += likelihood - np.einsum("cikl,cikl->c", theta, theta) / (2 * PRIOR_SD**2)
        into["theta"] += by_theta.sum(axis=1) - theta / PRIOR_SD**2
        into["beta"] += by_beta + self._mean.T @ into["theta"].sum(axis=1)
        if "delta" in part:
            helped = by_theta[:, 1]
            into["delta"] += helped.sum(axis=1)
            into["z"] += part["s"][:, None, None, None] * helped
            into["s"] += np.einsum("cikl,cikl->c", helped, part["z"])
        return value, gradient

    def _likelihood(self, abilities: Floats, difficulties: Floats) -> tuple[Floats, Floats, Floats]:
        """Of theta (chains, modalities, readers, classes, .) and beta in coordinates: its logarithm, both gradients."""
        theta = self._rows(abilities.reshape(len(abilities), -1, *abilities.shape[-2:]))
        ease = -self._rows(difficulties)
        # overflow is hundreds of prior standard deviations away: there a trajectory ends as divergent
        a, b = np.exp(theta), np.exp(ease)
        value = np.einsum("cikl,ikl->c", theta, self._by_row) + np.einsum("cjl,jl->c", ease, self._by_case)
        by_theta, by_ease = np.empty_like(theta), np.empty_like(ease)
        for k, cases in enumerate(self._of_class):
            total = a[:, :, k] @ b[:, cases].swapaxes(1, 2)
            value -= np.einsum("cij,ij->c", np.log(total), self._is_made[:, cases])
            share = self._is_made[:, cases] / total
            by_theta[:, :, k] = self._by_row[:, k] - a[:, :, k] * (share @ b[:, cases])
            by_ease[:, cases] = self._by_case[cases] - b[:, cases] * (share.swapaxes(1, 2) @ a[:, :, k])
        return value, (by_theta @ self._basis).reshape(abilities.shape), by_ease @ -self._basis

    def _parts(self, points: Floats) -> dict[str, Floats]:
        """Points (..., dimensions) as views (..., shape)."""
        found, start = {}, 0
        for name, shape in self._shapes.items():
            end = start + prod(shape)
            found[name] = points[..., start:end].reshape(*points.shape[:-1], *shape)
            start = end
        return found

    def _abilities(self, part: dict[str, Floats]) -> Floats:
        """Theta of every modality, in coordinates: (..., modalities, readers, classes, classes - 1)."""
        theta: Floats = part["theta"] + (self._mean @ part["beta"])[..., None, :, :]
        if "delta" not in part:
            return theta[..., None, :, :, :]
        u = part["s"][..., None, None, None] * part["z"]
        return np.stack([theta, theta + part["delta"][..., None, :, :] + u], axis=-4)

    def _rows(self, coordinates: Floats) -> Floats:
        """Rows of mean 0, (..., classes), from their coordinates (..., classes - 1)."""
        rows: Floats = coordinates @ self._basis.T
        return rows


def probabilities(theta: Floats, beta: Floats, truth: npt.NDArray[np.intp]) -> Floats:
    """
    P(chosen class) of every reader and case.

    Args:
        theta: (..., modalities, readers, classes, classes).
        beta: (..., cases, classes).
        truth: (cases,) true class.
    Returns:
        (..., modalities, readers, cases, classes).
    """
    found = np.exp(theta[..., truth, :] - beta[..., None, None, :, :])
    share: Floats = found / found.sum(axis=-1, keepdims=True)
    return share
