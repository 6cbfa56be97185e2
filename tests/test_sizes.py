import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.sizes import expand_box, hires_sizes, old_first_pass, pad_box

SIDE = st.integers(16, 2048)


@given(SIDE, SIDE, st.integers(64, 4096), st.integers(64, 4096))
def test_both_sides_are_covered_then_cut(width, height, resize_x, resize_y):
    sizes = hires_sizes(width, height, resize_x=resize_x, resize_y=resize_y)
    final_width, final_height = sizes.final
    assert sizes.target_width >= resize_x
    assert sizes.target_height >= resize_y
    assert resize_x - 8 < final_width < resize_x + 16
    assert resize_y - 8 < final_height < resize_y + 16
    assert final_width % 8 == final_height % 8 == 0


def test_final_size_is_whole_cells():
    assert hires_sizes(600, 400, scale=1.37).final == (816, 544)
    assert hires_sizes(512, 512, resize_x=1024, resize_y=768).final == (1024, 768)


def test_first_pass_given():
    sizes = hires_sizes(1024, 768, first_pass=(512, 384))
    assert (sizes.width, sizes.height, sizes.final) == (512, 384, (1024, 768))


@given(SIDE, SIDE)
def test_old_first_pass_has_the_area_of_its_time(width, height):
    first = old_first_pass(width, height)
    assert first[0] % 64 == first[1] % 64 == 0
    assert first[0] * first[1] >= 512 * 512


@given(st.data(), SIDE, SIDE, st.tuples(SIDE, SIDE), st.integers(0, 64))
def test_boxes_stay_inside_and_grow(data, width, height, shape, padding):
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = (left, top, data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height)))
    padded = pad_box(box, width, height, padding)
    grown = expand_box(padded, shape, width, height)
    for smaller, larger in ((box, padded), (padded, grown)):
        assert 0 <= larger[0] <= smaller[0] < smaller[2] <= larger[2] <= width
        assert 0 <= larger[1] <= smaller[1] < smaller[3] <= larger[3] <= height


def test_empty_box_is_refused():
    with pytest.raises(ValueError, match="empty"):
        expand_box((5, 5, 5, 9), (8, 8), 10, 10)
