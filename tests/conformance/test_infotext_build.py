import pytest
from vectors import by_id, load

from sfumato.engine.sampling.samplers import samplers
from sfumato.infotext import compose

_, CASES = load("infotext_build")


def text(case):
    request, options, call = case["request"], case["options"], case["call"]
    index = call.get("index")
    if index is None:
        index = call.get("iteration", 0) * request["batch_size"] + call.get("position_in_batch", 0)
    eta = request["eta"] if request["eta"] is not None else options.get("eta_ancestral", 1.0)
    uses_ensd = samplers[request["sampler_name"]].uses_ensd
    values = dict(
        request,
        sampler=request["sampler_name"],
        seed=case["seeds"][index],
        subseed=case["subseeds"][index],
        model=request["sd_model_name"] if options.get("add_model_name_to_info", True) else "",
        model_hash=request["sd_model_hash"] if options.get("add_model_hash_to_info", True) else "",
        vae=request["sd_vae_name"] if options.get("add_vae_name_to_info", True) else "",
        vae_hash=request["sd_vae_hash"] if options.get("add_vae_hash_to_info", True) else "",
        face_restorer=options.get("face_restoration_model", "CodeFormer"),
        init_image_hash=request.get("init_img_hash"),
        inpainting_mask_weight=(
            request.get("inpainting_mask_weight", options.get("inpainting_mask_weight", 1.0))
            if request["is_using_inpainting_conditioning"]
            else None
        ),
        eta_noise_seed_delta=options.get("eta_noise_seed_delta", 0) if uses_ensd and eta != 0 else 0,
        token_merging_ratio=case["token_merging_ratio"],
        hr_token_merging_ratio=case["token_merging_ratio_hr"] if request.get("enable_hr") else None,
        rng=options.get("randn_source", "GPU"),
        user=request["user"] if options.get("add_user_name_to_info") else None,
        denoising_strength=None,
    )
    main = call.get("use_main_prompt", False)
    negatives = call.get("all_negative_prompts") or case["negative_prompts"]
    return compose(
        case["main_prompt"] if main else case["prompts"][index],
        case["main_negative_prompt"] if main else negatives[index],
        values,
        case["extra_generation_params"],
        "v1.10.1" if options.get("add_version_to_infotext", True) else "",
        index,
    )


@pytest.mark.parametrize("case", by_id(CASES))
def test_text(case):
    assert text(case) == case["expected"]
