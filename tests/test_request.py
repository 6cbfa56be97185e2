import base64
import hashlib
import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sfumato.errors import InvalidRequest, Unsupported
from sfumato.parameter import field
from sfumato.request import Generation, Img2Img, Txt2Img, fields, parse, require_available, resolve_seeds

# Every generation parameter of A1111's txt2img and img2img, with the options that change the picture (its names).
A1111 = frozenset(
    re.findall(
        r"\w+",
        """
        prompt negative_prompt styles seed subseed subseed_strength seed_resize_from_h seed_resize_from_w sampler_name
        scheduler batch_size n_iter steps cfg_scale width height restore_faces tiling eta s_churn s_tmin s_tmax s_noise
        s_min_uncond refiner_checkpoint refiner_switch_at disable_extra_networks enable_hr denoising_strength firstphase_width
        firstphase_height hr_scale hr_upscaler hr_second_pass_steps hr_resize_x hr_resize_y hr_checkpoint_name hr_sampler_name
        hr_scheduler hr_prompt hr_negative_prompt init_images resize_mode image_cfg_scale mask mask_blur_x mask_blur_y
        mask_round inpainting_fill inpaint_full_res inpaint_full_res_padding inpainting_mask_invert initial_noise_multiplier
        sd_model_checkpoint sd_vae sd_vae_encode_method sd_vae_decode_method emphasis CLIP_stop_at_last_layers
        comma_padding_backtrack enable_prompt_comments use_old_scheduling pad_cond_uncond pad_cond_uncond_v0 randn_source
        eta_noise_seed_delta s_min_uncond_all skip_early_cond sigma_min sigma_max rho always_discard_next_to_last_sigma
        sgm_noise_multiplier uni_pc_variant uni_pc_skip_type uni_pc_order uni_pc_lower_order_final sd_noise_schedule
        beta_dist_alpha beta_dist_beta use_downcasted_alpha_bar use_old_karras_scheduler_sigmas no_dpmpp_sde_batch_determinism
        refiner_switch_by_sample_steps hires_fix_refiner_pass use_old_hires_fix_width_height hires_fix_use_firstpass_conds
        sdxl_crop_top sdxl_crop_left sdxl_refiner_low_aesthetic_score sdxl_refiner_high_aesthetic_score sdxl_clip_l_skip
        token_merging_ratio token_merging_ratio_hr inpainting_mask_weight img2img_extra_noise img2img_color_correction
        img2img_fix_steps img2img_background_color upscaler_for_img2img overlay_inpaint show_progress_type
        show_progress_every_n_steps
        """,
    )
)


def test_every_parameter_of_a1111_has_its_place():
    known = {parameter.a1111 for cls in (Txt2Img, Img2Img) for parameter in fields(cls)}
    assert known >= A1111


@pytest.mark.parametrize("cls", [Txt2Img, Img2Img])
def test_every_parameter_is_declared_in_full(cls):
    for parameter in fields(cls):
        assert parameter.title
        assert parameter.title[0].isupper()
        assert parameter.help.endswith((".", "slow."))
        assert parameter.group
        if parameter.kind in ("int", "float"):
            assert parameter.step, parameter.name
            assert parameter.maximum is not None or parameter.kind == "float"
    keys = [parameter.infotext for parameter in fields(cls) if parameter.infotext]
    assert len(keys) == len(set(keys))


def test_fields_carry_the_declaration():
    steps = field(Txt2Img, "steps")
    assert (steps.kind, steps.minimum, steps.maximum, steps.default, steps.flag) == ("int", 1, 1000, 20, "--steps")
    assert field(Txt2Img, "emphasis").choices[0] == "Original"
    assert field(Txt2Img, "eta").optional
    assert field(Img2Img, "init_images").kind == "images"
    assert field(Img2Img, "mask").kind == "image"
    assert field(Txt2Img, "styles").kind == "texts"
    assert not field(Txt2Img, "restore_faces").available


def test_json_schema_carries_the_declaration():
    schema = Txt2Img.model_json_schema()["properties"]["clip_skip"]
    assert (schema["title"], schema["minimum"], schema["maximum"], schema["group"]) == ("Clip skip", 1, 12, "Prompt")


MISTAKES = {
    "too small": ({"steps": 0}, "steps: 0 was given, but it must be a whole number from 1 to 1000."),
    "not a number": ({"cfg_scale": float("nan")}, "cfg_scale: nan was given, but it must be a number."),
    "infinite": ({"hr_scale": float("inf")}, "hr_scale: inf was given, but it must be a number from 1 to 16."),
    "huge": ({"seed": 10**5000}, "seed: a very large number was given"),
    "word": ({"steps": "many"}, "steps: 'many' was given, but it must be a whole number"),
    "fraction": ({"width": 1.5}, "width: 1.5 was given, but it must be a whole number from 16 to 16384 px."),
    "choice": ({"rng": "TPU"}, "rng: 'TPU' was given, but it must be one of 'NV', 'CPU', 'GPU'."),
    "type": ({"prompt": ["a"]}, "prompt: a value of type list was given, but it must be text."),
    "half pair": ({"prompt": "\ud800"}, "prompt: "),
    "too long": ({"prompt": "x" * 300_000}, "prompt: too long; at most 262144 are allowed."),
    "unknown": ({"stepz": 3}, "There is no parameter 'stepz'. Did you mean steps"),
    "strange": ({"\x1b[31m": 3}, "There is no parameter '\\x1b[31m'."),
    "interval": ({"guidance_start": 0.5, "guidance_end": 0.4}, "guidance_start (0.5) must not be above guidance_end (0.4)."),
    "sigmas": ({"sigma_min": 5, "sigma_max": 2}, "sigma_min (5) must be below sigma_max (2)."),
    "seeds": ({"seed": 2**63 - 1, "batch_size": 4}, "the seeds of 4 pictures must stay at or below"),
    "first pass": ({"first_pass_width": 64}, "first_pass_width and first_pass_height must be given together."),
}


@pytest.mark.parametrize(("values", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(values, message):
    with pytest.raises(InvalidRequest) as caught:
        parse(Txt2Img, values)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 400


def test_all_mistakes_are_told_at_once():
    with pytest.raises(InvalidRequest) as caught:
        parse(Txt2Img, {"steps": 0, "cfg_scale": "x", "nothing": 1})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["***"], "neither base64"),
        ([b""], "between 1 and 67108864 bytes"),
        (["sha256:xyz"], "neither base64"),
        ([3], "init_images: "),
        ("abc", "init_images: "),
    ],
)
def test_bad_pictures_are_explained(images, message):
    with pytest.raises(InvalidRequest, match=message):
        parse(Img2Img, {"init_images": images})


def test_pictures_are_bytes_or_hashes():
    digest = "sha256:" + hashlib.sha256(b"x").hexdigest()
    data = base64.b64encode(b"\x89PNG").decode()
    request = parse(Img2Img, {"init_images": [data, f"data:image/png;base64,{data}", b"\x89PNG", digest]})
    assert request.init_images == (b"\x89PNG", b"\x89PNG", b"\x89PNG", digest)
    assert Img2Img.model_validate_json(request.model_dump_json()) == request


@pytest.mark.parametrize("value", ["red", "#fff", "#gggggg", "url(x)"])
def test_bad_colours_are_explained(value):
    with pytest.raises(InvalidRequest, match="#rrggbb"):
        parse(Img2Img, {"background_color": value})


def test_requests_are_frozen_and_comparable():
    request = Txt2Img(prompt="a", styles=["b"])
    with pytest.raises(ValidationError):
        request.prompt = "c"
    assert request == Txt2Img(prompt="a", styles=("b",))
    assert hash(request) == hash(Txt2Img(prompt="a", styles=("b",)))


@given(st.dictionaries(st.sampled_from([p.name for p in fields(Txt2Img)]), st.none() | st.integers() | st.floats() | st.text()))
@settings(max_examples=300, deadline=None)
def test_any_values_give_a_request_or_an_explanation(values):
    try:
        request = parse(Txt2Img, values)
    except InvalidRequest as error:
        message = error.message
    else:
        message = request.model_dump_json()
        assert Txt2Img.model_validate_json(message) == request
    assert message


def test_json_is_plain():
    assert json.loads(Txt2Img(prompt="狐").model_dump_json())["prompt"] == "狐"


@pytest.mark.parametrize(("given", "kept"), [(512, 512), (513, 512), (519, 512), (16, 16), (23, 16)])
def test_sizes_are_whole_latent_cells(given, kept):
    assert parse(Txt2Img, {"width": given, "height": given}).width == kept
    assert parse(Img2Img, {"width": given, "height": given}).height == kept


def test_random_seeds_become_numbers():
    request = resolve_seeds(Txt2Img(), random.Random(0))
    assert 0 <= request.seed < 4294967294
    assert 0 <= request.subseed < 4294967294
    assert resolve_seeds(Txt2Img(), random.Random(0)) == request
    assert resolve_seeds(request, random.Random(1)) is request
    assert resolve_seeds(Txt2Img(seed=5), random.Random(0)).seed == 5


def test_seeds_of_a_batch():
    request = Txt2Img(seed=5, subseed=9, batch_size=2, batch_count=2)
    assert request.images == 4
    assert [request.image_seeds(index) for index in range(3)] == [(5, 9), (6, 10), (7, 11)]
    varied = Txt2Img(seed=5, subseed=9, subseed_strength=0.1)
    assert [varied.image_seeds(index) for index in range(3)] == [(5, 9), (5, 10), (5, 11)]


def test_features_to_come_are_refused():
    require_available(Txt2Img(clip_skip=2))
    with pytest.raises(Unsupported, match="restore_faces is understood"):
        require_available(Txt2Img(restore_faces=True))
    with pytest.raises(Unsupported, match="mask, soft_inpainting are understood"):
        require_available(Img2Img(mask=b"x", soft_inpainting=True))


def test_both_kinds_share_the_generation_parameters():
    assert {parameter.name for parameter in fields(Generation)} <= {parameter.name for parameter in fields(Img2Img)}
