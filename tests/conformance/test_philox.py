"""The software Philox generator against the vectors."""

import numpy as np
import pytest
from closeness import assert_close
from vectors import by_id, load

from sfumato.engine.sampling.philox import Philox, words

HEADER, CASES = load("philox")


@pytest.mark.parametrize("case", by_id(CASES))
def test_philox(case):
    tolerance = HEADER["tolerance"]
    if case["kind"] == "words":
        counter = np.array(case["counter"], np.uint64)[:, None]
        key = case["key"][0] | case["key"][1] << 32
        assert words(counter, key)[:, 0].tolist() == case["expected"]
    elif case["kind"] == "large":
        philox = Philox(case["seed"])
        for _ in range(case["draw"] + 1):
            drawn = philox.randn(*case["shape"]).ravel()
        assert_close(drawn[case["index_in_flat_order"]], case["values"], tolerance)
        assert drawn.mean(dtype=np.float64) == pytest.approx(case["mean"], abs=1e-6)
        assert drawn.std(dtype=np.float64) == pytest.approx(case["std"], abs=1e-6)
    else:
        philox = Philox(case["seed"])
        for draw in case["draws"]:
            assert_close(philox.randn(*draw["shape"]).ravel(), draw["values"], tolerance)
