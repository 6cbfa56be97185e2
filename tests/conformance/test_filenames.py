import pytest
from vectors import by_id, load

from sfumato.filenames import NameFacts, expand, next_number, sanitize

HEADER, CASES = load("filenames")
STYLES = {style["name"]: style["prompt"] for style in HEADER["styles"]}
# What "Automatic" stands for, from the table of A1111's samplers.
SCHEDULES = {
    "Karras": ("DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2", "DPM2 a", "Restart"),
    "Exponential": ("DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"),
}


def pixels(width, height):
    return bytes(value % 256 for y in range(height) for x in range(width) for value in (7 * x + 13 * y, 3 * x + y, x * y))


def facts(case):
    request, options = case["request"], case["options"]
    return NameFacts(
        prompt=case["prompt"],
        request_prompt=request["prompt"],
        negative_prompt=request["negative_prompt"],
        seed=case["seed"],
        seeds=request["all_seeds"],
        width=case["width"],
        height=case["height"],
        steps=request["steps"],
        cfg_scale=request["cfg_scale"],
        sampler=request["sampler_name"],
        scheduler=request["scheduler"],
        default_scheduler=next((name for name, samplers in SCHEDULES.items() if request["sampler_name"] in samplers), ""),
        model=HEADER["model"]["name_for_extra"],
        model_hash=request["sd_model_hash"],
        vae=HEADER["model"]["loaded_vae_file"] or "",
        styles=request["styles"],
        style_texts=[STYLES.get(name, "") for name in request["styles"]],
        clip_skip=options.get("CLIP_stop_at_last_layers", 1),
        denoising_strength=request["denoising_strength"],
        batch_size=request["batch_size"],
        batch_count=request["n_iter"],
        batch_index=request["batch_index"],
        iteration=request["iteration"],
        basename=case["basename"],
        user=request["user"],
        job_timestamp=request["job_timestamp"],
        pixels=lambda: pixels(case["width"], case["height"]),
        max_prompt_words=options.get("directories_max_prompt_words", 8),
        archive=case["zip"],
    )


@pytest.mark.parametrize("case", by_id(CASES))
def test_filenames(case):
    match case["kind"]:
        case "pattern":
            assert expand(case["pattern"], facts(case)) == case["expected"]
        case "sanitize":
            text = case["text"]
            assert (None if text is None else sanitize(text, spaces=not case["replace_spaces"])) == case["expected"]
        case "next_number":
            assert next_number(case["files"], case["basename"]) == case["expected"]
        case kind:
            raise AssertionError(kind)
