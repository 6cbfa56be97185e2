import pytest
from PIL import Image
from vectors import by_id, load

from sfumato.sizes import expand_box, hires_sizes, pad_box

_, HIRES = load("hires_size")
_, REGIONS = load("inpaint_region")


@pytest.mark.parametrize("case", by_id(HIRES))
def test_hires_sizes(case):
    first_pass = (case.get("firstphase_width", 0), case.get("firstphase_height", 0))
    sizes = hires_sizes(
        case["width"],
        case["height"],
        scale=case["hr_scale"],
        resize_x=case["hr_resize_x"],
        resize_y=case["hr_resize_y"],
        first_pass=first_pass if any(first_pass) else None,
        old=case["use_old_hires_fix_width_height"],
    )
    resized = sizes.resize_x or sizes.resize_y
    assert {
        "width": sizes.width,
        "height": sizes.height,
        "hr_upscale_to_x": sizes.target_width,
        "hr_upscale_to_y": sizes.target_height,
        "truncate_x": sizes.cut_x,
        "truncate_y": sizes.cut_y,
        "infotext": {"Hires resize": f"{sizes.resize_x}x{sizes.resize_y}"} if resized else {"Hires upscale": case["hr_scale"]},
    } == case["expected"]


@pytest.mark.parametrize("case", by_id(REGIONS))
def test_inpaint_region(case):
    width, height = case["mask_size"]
    mask = Image.new("L", (width, height))
    for left, top, right, bottom in case["rectangles"]:
        mask.paste(255, (left, top, right, bottom))
    box = mask.getbbox()
    region = pad_box(box, width, height, case["padding"]) if box else None
    assert (list(region) if region else None) == case["expected_region"]
    nothing = (width, height, 0, 0)
    assert list(pad_box(box or nothing, width, height, case["padding"])) == case["expected_region_old"]
    if region:
        assert list(expand_box(region, tuple(case["processing_size"]), width, height)) == case["expected_expanded"]
