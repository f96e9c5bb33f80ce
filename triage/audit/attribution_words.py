"""An attribution in plain language."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from triage.audit.attribution_parts import Cause, Concept, Covariate, Figure, Prior

OPEN = " Labels do not follow the probabilities either; whether by the images or by a changed disease is open."


def sentence(
    cause: Cause,
    prior: Prior,
    covariate: Covariate,
    concept: Concept,
    *,
    is_mixed: bool,
    is_changed: bool,
    is_off: bool,
    tolerance: float,
    drop: float,
    names: Sequence[str],
) -> str:
    """
    What was found, what it rests on, and what could not be judged.

    Args:
        is_mixed, is_changed, is_off: the mix was found changed, images, and how labels follow the probabilities.
        names: of the k classes.
    """
    match cause:
        case Cause.CONCEPT:
            said = _concept(concept, covariate, is_mixed=is_mixed, is_changed=is_changed)
        case Cause.COVARIATE_WITH_LOSS:
            said = _with_loss(covariate) + (OPEN if is_off else "")
        case Cause.COVARIATE_BENIGN:
            said = _benign(covariate, tolerance, drop) + (OPEN if is_off else "")
        case Cause.COVARIATE_UNKNOWN:
            said = _unknown(covariate, drop) + (OPEN if is_off else "")
        case Cause.PRIOR_ONLY:
            said = _prior(prior, concept, names)
        case Cause.NONE:
            said = "No drift was found in what could be judged."
    mixed = [_mix(prior, names) + "."] if is_mixed and cause is not Cause.PRIOR_ONLY else []
    return " ".join([said, *mixed, *_not_judged(covariate, concept)])


def _concept(concept: Concept, covariate: Covariate, *, is_mixed: bool, is_changed: bool) -> str:
    though = "by more than changed images could explain" if is_changed else "though images of the mix look as they did"
    though = though if isfinite(covariate.p) else "and images could not be compared"
    mimic = " Images that have changed so as to look like another mix would do the same." if is_mixed else ""
    gap, realised = concept.gap, concept.realised.value
    return (
        f"Labels no longer follow the probabilities, {though}: of {concept.labels} labelled cases {realised:.1%} were "
        f"right where {realised - gap.value:.1%} were promised (a difference of {gap.value:+.1%}, {gap.low:+.1%} to "
        f"{gap.high:+.1%}). What the model learnt of a class no longer holds.{mimic}"
    )


def _images(covariate: Covariate) -> str:
    found = covariate.images.classifier
    return (
        "Images look otherwise than the same mix of classes did: they can be told from those of the reference with an "
        f"AUC of {found.area:.2f} ({found.low:.2f} to {found.high:.2f})"
    )


def _loss(covariate: Covariate) -> str:
    basis = {
        "labels": "as labels show",
        "images": "from cases of the reference that look alike, if a class is as likely as ever given the image",
        "probabilities": "from the probabilities, if they still mean what they meant, which such images may undo",
    }[covariate.basis]
    return f"{_span(covariate.loss)}, {basis}"


def _with_loss(covariate: Covariate) -> str:
    return f"{_images(covariate)}, and fewer cases are right than in this mix should be, by {_loss(covariate)}."


def _benign(covariate: Covariate, tolerance: float, drop: float) -> str:
    return (
        f"{_images(covariate)}. No loss beyond the {tolerance:.1%} put up with is shown, and one of more than "
        f"{drop:.1%} is ruled out: {_loss(covariate)}."
    )


def _unknown(covariate: Covariate, drop: float) -> str:
    return (
        f"{_images(covariate)}. Whether fewer cases are right now is not known, and a loss of more than {drop:.1%} not "
        f"ruled out; the estimate is {_loss(covariate)}. More labels of this window are needed."
    )


def _mix(prior: Prior, names: Sequence[str]) -> str:
    moved = [abs(now.value - before) for before, now in zip(prior.reference, prior.current, strict=True)]
    most = moved.index(max(moved))
    now = prior.current[most]
    return f"The mix of classes has changed, {names[most]} most: {prior.reference[most]:.1%} before, {_span(now)} now"


def _prior(prior: Prior, concept: Concept, names: Sequence[str]) -> str:
    mimic = "" if isfinite(concept.p) else " Images that look like another mix could only be told from one by labels."
    return (
        f"{_mix(prior, names)}. As far as was seen each class looks as it did, so it is the patients who have changed: "
        f"no fault of the model. With the new mix {_span(prior.expected)} of cases are expected to be right, before it "
        f"{prior.baseline:.1%} were.{mimic}"
    )


def _not_judged(covariate: Covariate, concept: Concept) -> list[str]:
    found = []
    if not isfinite(covariate.p):
        found.append("Too few cases to compare images.")
    if not isfinite(concept.p):
        found.append(f"Whether labels follow the probabilities was not judged, with {concept.labels} labels.")
    return found


def _span(figure: Figure) -> str:
    return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})"
