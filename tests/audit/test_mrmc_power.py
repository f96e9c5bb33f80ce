"""Power of a planned reader study: numbers that R gives for Van Dyke's components, and counting simulated studies."""

import numpy as np
import pytest

from triage.audit.figures_of_merit import areas
from triage.audit.mrmc_covariance import unbiased
from triage.audit.mrmc_power import Pilot, Sampling, cases_needed, pilot_of, power
from triage.audit.obuchowski_rockette import analyse
from triage.audit.ratings import against_rest
from triage.audit.synthetic_study import Design, expected_areas, make_study
from triage.audit.variance_components import variance_components

# Van Dyke's study: 114 cases, the jackknife components as RJafroc and MRMCaov print them, the gain observed in it
VAN_DYKE = Pilot(114, 0.00020040252, 0.00080228827, 0.00034661371, 0.00034407483, 0.00023902837)
GAIN = 0.043800322


@pytest.mark.parametrize(
    ("sampling", "readers", "cases", "expected"),
    [
        (Sampling.RRRC, 6, 111, 0.5526116),
        (Sampling.RRRC, 10, 165, 0.80541995),
        (Sampling.FRRC, 10, 131, 0.80091813),
        (Sampling.RRFC, 10, 53, 0.80496663),
    ],
)
def test_power_is_what_rjafroc_gives(sampling, readers, cases, expected):
    assert power(VAN_DYKE, readers, cases, GAIN, sampling=sampling).power == pytest.approx(expected, abs=5e-8)


def test_the_cases_needed_are_what_rjafroc_gives():
    found = cases_needed(VAN_DYKE, 6, GAIN)
    assert (found.readers, found.cases) == (6, 251)
    assert found.power == pytest.approx(0.801, abs=5e-4)
    assert power(VAN_DYKE, 6, 250, GAIN).power < 0.8


def test_the_pilots_own_size_has_its_own_denominator_and_freedom():
    ratings = against_rest(make_study(Design(readers=6, gain_sd=0.4), 3), "covid")
    components = variance_components(areas(ratings).value, unbiased(ratings), 180)
    assert components.var_tr > 0
    tests = analyse(components, ratings.modalities).rrrc
    found = power(pilot_of(components), 6, 180, tests.gains[0].value)
    assert found.df == pytest.approx(tests.equality.df2, rel=1e-9)
    assert found.noncentrality == pytest.approx(tests.equality.statistic, rel=1e-9)


def test_without_a_gain_the_power_is_alpha():
    for sampling in Sampling:
        assert power(VAN_DYKE, 6, 100, 0.0, sampling=sampling, alpha=0.1).power == pytest.approx(0.1, abs=1e-9)


def test_a_gain_and_a_loss_of_one_size_are_as_easily_shown():
    assert power(VAN_DYKE, 6, 100, 0.05).power == power(VAN_DYKE, 6, 100, -0.05).power


def test_with_few_readers_more_cases_can_cost_power_and_the_fewest_that_suffice_are_found():
    assert power(VAN_DYKE, 2, 10_000, 0.1).power < 0.45 < power(VAN_DYKE, 2, 200, 0.1).power
    found = cases_needed(VAN_DYKE, 2, 0.1, wanted=0.5)
    assert found.cases < 200
    assert power(VAN_DYKE, 2, found.cases - 1, 0.1).power < 0.5 <= found.power


def test_what_no_number_of_cases_can_show_has_no_answer():
    assert cases_needed(VAN_DYKE, 3, 0.01) is None
    assert cases_needed(Pilot(114, 0.0002, 0.0008, 0.0003, np.nan, 0.0002), 5, 0.1) is None


def test_negative_components_are_planned_with_as_zero():
    negative = Pilot(114, -0.0001, 0.0008, 0.0003, 0.0002, 0.0003)
    zero = Pilot(114, 0.0, 0.0008, 0.0003, 0.0002, 0.0002)
    assert power(negative, 5, 100, 0.05) == power(zero, 5, 100, 0.05)


@pytest.mark.parametrize(
    "pilot", [Pilot(114, np.nan, 0.0008, 0.0003, 0.0003, 0.0002), Pilot(114, 0, 0.0003, 0.0003, 0, 0)]
)
def test_a_pilot_that_cannot_tell_gives_no_power(pilot):
    assert np.isnan(power(pilot, 5, 100, 0.05).power)


@pytest.mark.parametrize(
    ("sampling", "readers", "cases"), [(Sampling.RRRC, 1, 50), (Sampling.FRRC, 0, 50), (Sampling.RRFC, 5, 1)]
)
def test_a_study_that_is_none_is_refused(sampling, readers, cases):
    with pytest.raises(ValueError, match="power: at least"):
        power(VAN_DYKE, readers, cases, 0.05, sampling=sampling)


def test_the_power_foretold_is_the_share_of_simulated_studies_that_show_the_gain():
    design = Design(readers=5, cases=(20, 20, 20), gain=(0.5, 0.5, 0.5), gain_sd=0.15)
    shown, parts = [], []
    for seed in range(150):
        ratings = against_rest(make_study(design, seed), "pneumonia")
        found = variance_components(areas(ratings).value, unbiased(ratings), 60)
        shown.append(analyse(found, ratings.modalities).rrrc.equality.p < 0.05)
        parts.append([found.var_tr, found.var, found.cov1, found.cov2, found.cov3])
    effect = expected_areas(design, "with")[1] - expected_areas(design, "without")[1]
    foretold = power(Pilot(60, *np.mean(parts, axis=0)), 5, 60, effect).power
    assert 0.4 < foretold < 0.9
    assert np.mean(shown) == pytest.approx(foretold, abs=0.12)
