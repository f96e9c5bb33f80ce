"""The reader model of `triage.audit.item_response` once more, in NumPyro, to hold the two against each other."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from triage.audit.bootstrap import Floats
from triage.audit.chains import diagnose
from triage.audit.item_response import Fit
from triage.audit.nominal_readings import Readings
from triage.audit.nominal_response import PRIOR_SD
from triage.domain.errors import Misconfigured


def fit_by_numpyro(of: Readings, *, chains: int = 4, warmup: int = 500, draws: int = 1000, seed: int = 1) -> Fit:
    """
    Draw from the same posterior with NumPyro's NUTS, in the coordinates the model is stated in.

    Returns:
        As `triage.audit.item_response.fit`, rows less their mean (single precision).
    Raises:
        Misconfigured: NumPyro is not installed.
    """
    try:
        infer, random = import_module("numpyro.infer"), import_module("jax.random")
    except ModuleNotFoundError as exc:
        raise Misconfigured("NumPyro is not installed: pip install 'chest-triage[bayes]'") from exc
    sampler = infer.MCMC(
        infer.NUTS(_model),
        num_warmup=warmup,
        num_samples=draws,
        num_chains=chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    modality, reader, case, answer = np.nonzero(of.chosen)
    sampler.run(random.PRNGKey(seed), of.chosen.shape, modality, reader, case, of.truth[case], answer)
    raw = {name: np.asarray(found, dtype=np.float64) for name, found in sampler.get_samples(True).items()}
    divergences = int(np.asarray(sampler.get_extra_fields(True)["diverging"]).sum())
    parameters = _centred(raw)
    return Fit(of, parameters, diagnose(parameters, divergences), seed)


def _model(shape: tuple[int, ...], modality: Any, reader: Any, case: Any, truth: Any, answer: Any) -> None:
    numpyro, dist, jnp = import_module("numpyro"), import_module("numpyro.distributions"), import_module("jax.numpy")
    modalities, readers, cases, classes = shape
    normal = dist.Normal(0.0, PRIOR_SD)
    theta = numpyro.sample("theta", normal.expand([readers, classes, classes]).to_event(3))
    beta = numpyro.sample("beta", normal.expand([cases, classes]).to_event(2))
    ability = theta[None]
    if modalities == 2:
        delta = numpyro.sample("delta", normal.expand([classes, classes]).to_event(2))
        tau = numpyro.sample("tau", dist.HalfNormal(1.0))
        z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([readers, classes, classes]).to_event(3))
        ability = jnp.stack([theta, theta + delta + tau * z])
    numpyro.sample("answer", dist.Categorical(logits=ability[modality, reader, truth] - beta[case]), obs=answer)


def _centred(raw: dict[str, Floats]) -> dict[str, Floats]:
    """Names and shapes of `NominalResponse.parameters`."""
    theta = raw["theta"][:, :, None]
    found = {"theta": theta, "beta": raw["beta"]}
    if "delta" in raw:
        u = raw["tau"][..., None, None, None] * raw["z"]
        found["theta"] = np.concatenate([theta, theta + raw["delta"][:, :, None, None] + u[:, :, None]], axis=2)
        found |= {"delta": raw["delta"], "u": u}
    centred = {name: draws - draws.mean(axis=-1, keepdims=True) for name, draws in found.items()}
    return centred | ({"tau": raw["tau"]} if "tau" in raw else {})
