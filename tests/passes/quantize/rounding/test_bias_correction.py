"""Outputs keep their means, and the centred Gram matrix says what error is left."""

import numpy as np
import pytest

from planish.passes.quantize.rounding.bias_correction import bias_correction, centred
from planish.passes.quantize.rounding.layer import output_errors
from tests.passes.quantize.layers import layer


def test_outputs_keep_their_means() -> None:
    case = layer(16, 5)
    rounded = np.round(case.weight * 20) / 20
    means = case.inputs.mean(axis=0)
    correction = bias_correction(case.weight, rounded, means)
    error = case.inputs @ rounded + correction - case.inputs @ case.weight
    np.testing.assert_allclose(error.mean(axis=0), 0, atol=1e-12)
    left = output_errors(case.weight, rounded, centred(case.gram, means, len(case.inputs)))
    np.testing.assert_allclose((error**2).sum(axis=0), left, rtol=1e-9)
    assert (left < output_errors(case.weight, rounded, case.gram)).all()


def test_shapes_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"means of shape \(4,\)"):
        bias_correction(np.ones((3, 2)), np.ones((3, 2)), np.ones(4))
