"""Step counts of changes to pictures against the vectors."""

import pytest
from vectors import by_id, load

from sfumato.engine.sampling.plan import img2img_steps

_, CASES = load("img2img_steps")


@pytest.mark.parametrize("case", by_id(CASES))
def test_img2img_steps(case):
    total, encode = img2img_steps(
        case["steps"],
        case["denoising_strength"],
        fix_steps=case["img2img_fix_steps"],
        explicit_steps=case["explicit_steps"],
    )
    assert {"total_steps": total, "t_enc": encode} == case["expected"]
