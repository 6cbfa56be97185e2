import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import InvalidRequest
from sfumato.infotext import Facts, Resource, build, explicit, parse, scan, split_hashes, to_request
from sfumato.infotext.versions import parse_version
from sfumato.parameter import fields
from sfumato.parameter import parse as parse_request
from sfumato.request import Img2Img, Txt2Img
from sfumato.styles import Style

# The pairs of A1111's reader, as the reference states them; quadratic, so only for short texts.
PAIRS = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')

LINE = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=40).map(str.strip)
PROMPT = st.lists(LINE, max_size=3).map("\n".join).map(str.strip).filter(lambda text: "Negative prompt:" not in text)
PIECE = st.sampled_from(
    ["a", "Bb", " ", "  ", ":", ",", '"', "\\", '\\"', "-", "/", "_", "9", "é", "\t", "|", "key: ", 'k: "v, w", ', "=", "\r"]
)
SKIPPED = {
    "model",
    "vae",
    "emphasis",
    "subseed",
    "init_images",
    "seed_resize_from_w",
    "seed_resize_from_h",
    "sigma_min",
    "sigma_max",
}


def value_of(parameter):
    """A strategy for the values of a parameter that the text can carry."""
    match parameter.kind:
        case "choice":
            return st.sampled_from(parameter.choices)
        case "bool":
            return st.booleans()
        case "int":
            high = parameter.maximum if parameter.maximum is not None else 1000
            return st.integers(int(parameter.minimum or 0), min(int(high), 2**60))
        case "float":
            low = parameter.minimum if parameter.minimum is not None else -30
            high = parameter.maximum if parameter.maximum is not None else 30
            return st.floats(low, high, allow_nan=False, allow_infinity=False)
        case _:
            return st.text(st.characters(categories=("L", "N")), min_size=1, max_size=12)


def requests(cls):
    usable = {
        parameter.name: value_of(parameter)
        for parameter in fields(cls)
        if parameter.infotext and parameter.available and parameter.name not in SKIPPED and not parameter.multiline
    }
    usable["guidance_start"], usable["guidance_end"] = st.floats(0, 0.5), st.floats(0.5, 1)
    usable |= {"seed": st.integers(0, 2**60), "width": st.integers(16, 2048), "height": st.integers(16, 2048)}
    fixed = {"prompt": PROMPT, "negative_prompt": PROMPT, "enable_hr": st.booleans()} if cls is Txt2Img else {"prompt": PROMPT}
    return st.fixed_dictionaries(fixed, optional=usable).map(lambda values: parse_request(cls, values))


def carried(request):
    """The names of the fields that the text of a request carries."""
    hidden = set()
    if isinstance(request, Txt2Img) and not request.enable_hr:
        hidden |= {parameter.name for parameter in fields(Txt2Img) if parameter.group == "Hires fix"}
    if not request.refiner_checkpoint:
        hidden |= {"refiner_switch_at", "refiner_switch_by_sampling_steps"}
    if request.eta_noise_seed_delta and request.eta == 0:
        hidden.add("eta_noise_seed_delta")
    if request.subseed_strength == 0:
        hidden.add("subseed")
    return {parameter.name for parameter in fields(type(request))} - hidden


def assert_same(got, request):
    for name in carried(request):
        assert getattr(got, name) == getattr(request, name), name


@given(requests(Txt2Img))
@settings(max_examples=150, deadline=None)
def test_what_is_built_is_read_back(request):
    text = build(request, Facts(uses_ensd=True))
    values, warnings = to_request(text)
    assert warnings == ()
    assert_same(parse_request(Txt2Img, {**values, "subseed": request.subseed}), request)


@given(requests(Img2Img))
@settings(max_examples=100, deadline=None)
def test_what_is_built_of_a_picture_is_read_back(request):
    values, warnings = to_request(build(request, Facts(uses_ensd=True)), Img2Img)
    assert warnings == ()
    assert_same(parse_request(Img2Img, {**values, "subseed": request.subseed}), request)


@given(st.lists(PIECE, max_size=25).map("".join))
@settings(max_examples=1000, deadline=None)
def test_scanner_finds_what_the_expression_finds(line):
    assert list(scan(line)) == PAIRS.findall(line)


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_valid_request(text):
    values, _ = to_request(text + "\nSteps: 20, Seed: 1, Size: 512x512")
    parse_request(Txt2Img, values)


HOSTILE = {
    "infinite": "Steps: 1e309, CFG scale: 1e999, Seed: NaN, Size: 999999999x1",
    "many keys": ", ".join(f"key{index}: {index}" for index in range(10_000)),
    "same key": "Steps: 1, " * 10_000 + "Seed: 3, Size: 512x512",
    "settings": "Steps: 9, Seed: 3, Size: 512x512, sd_model_checkpoint: x, outdir_samples: /etc, api_host: 0.0.0.0",
    "recursion": 'Template: "Template: \\"Template: x\\"", Negative Template: "{a|b}", Steps: 2, Seed: 3',
    "script": "Steps: 2, Seed: 3, Sampler: <script>alert(1)</script>, Size: 512x512",
    "half pairs": "\ud800 Steps: 2, Seed: 3, Sampler: \udfff, Size: 512x512",
    "nul and rtl": "Steps: 2, Seed: 3, Sampler: a\0b\u202ec, Size: 512x512",
    "huge number": "Steps: " + "9" * 5000 + ", Seed: -5, Size: 512x512",
    "hashes bomb": "Steps: 2, Seed: 3, Size: 512x512, Hashes: " + '{"a":' * 20_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_gives_a_valid_request(text):
    values, warnings = to_request("a fox\n" + text, include_model=True)
    request = parse_request(Txt2Img, values)
    assert request.width * request.height < 2048**2
    assert not {"model", "sd_model_checkpoint", "outdir_samples"} & set(values)
    assert all(len(warning) < 2000 for warning in warnings)


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "C:\\x", "a/../../b", "\\\\host\\share", "http://x/y"])
@pytest.mark.parametrize("key", ["Model", "VAE", "Refiner", "Hires checkpoint", "Hires upscaler"])
def test_paths_are_not_taken_over(key, name):
    text = f"a\nSteps: 3, Seed: 4, Size: 64x64, Denoising strength: 0.5, {key}: {json.dumps(name)}"
    values, warnings = to_request(text, include_model=True)
    assert name not in values.values()
    assert any("path" in warning for warning in warnings)


def test_path_in_model_hash_is_not_taken_over():
    values, warnings = to_request("a\nSteps: 3, Seed: 4, Model hash: ../x, Model: b", include_model=True)
    assert "model" not in values
    assert warnings == ("Model: a path is not taken from a text.",)


def test_too_long_a_text_is_refused():
    with pytest.raises(InvalidRequest, match="262145 characters"):
        to_request("x" * 262_145)


def test_out_of_range_values_are_explained():
    values, warnings = to_request("a\nSteps: 0, Seed: 4, Size: 64x64, Emphasis: Loud")
    assert "steps" not in values
    assert warnings[0] == "Steps: '0' is not a whole number from 1 to 1000."
    assert warnings[1].startswith("Emphasis: 'Loud' is not one of 'Original'")


def test_contradictions_keep_the_prompts():
    values, warnings = to_request("a\nSteps: 3, Guidance start: 0.9, Guidance end: 0.1")
    assert values == {"prompt": "a", "negative_prompt": ""}
    assert "guidance_start (0.9)" in warnings[0]


def test_features_to_come_are_explained():
    values, warnings = to_request("a\nSteps: 3, Seed: 4, Size: 64x64, Token merging ratio: 0.5, Face restoration: CodeFormer")
    assert "token_merging_ratio" not in values
    assert len(warnings) == 2
    assert all("not available" in warning for warning in warnings)


def test_noise_source_of_foreign_pictures_is_ours():
    assert "rng" not in to_request("a\nSteps: 3, Seed: 4, Size: 64x64, Version: v1.10.1")[0]
    assert to_request("a\nSteps: 3, Seed: 4, Size: 64x64, RNG: CPU")[0]["rng"] == "CPU"


def test_hires_fix_is_recognised():
    text = "a\nSteps: 3, Seed: 4, Size: 64x64, Denoising strength: 0.5, Hires resize: 128x96, Hires upscaler: Latent"
    values, warnings = to_request(text)
    assert warnings == ()
    assert (values["enable_hr"], values["hr_resize_x"], values["hr_resize_y"]) == (True, 128, 96)
    assert "enable_hr" not in to_request("a\nSteps: 3, Seed: 4, Size: 64x64, Denoising strength: 0.5")[0]


def test_old_hires_fix_becomes_the_new_one():
    values, _ = to_request("a\nSteps: 3, Seed: 4, Size: 1024x1024, First pass size: 0x0, Denoising strength: 0.7")
    assert (values["width"], values["height"], values["hr_resize_x"], values["enable_hr"]) == (512, 512, 1024, True)


def test_sampler_names_are_resolved_by_the_engine():
    text = "a\nSteps: 3, Sampler: DPM++ 2M Karras, Seed: 4, Size: 64x64"
    values, _ = to_request(text, resolve=lambda sampler, scheduler: (sampler.removesuffix(" Karras"), "Karras"))
    assert (values["sampler"], values["scheduler"]) == ("DPM++ 2M", "Karras")


def test_styles_are_lifted_out():
    values, _ = to_request("a mill, sepia\nSteps: 3, Seed: 4, Size: 64x64", styles=[Style("Sepia", "sepia")])
    assert (values["prompt"], values["styles"]) == ("a mill", ["Sepia"])


def test_civitai_hashes_are_written_and_read():
    facts = Facts(
        model="base",
        model_hash="0123456789abcdef",
        resources=(Resource("lora", "a: b, c", "fedcba9876543210", "aabbccddeeff0011"), Resource("embed", "bad", "11" * 32)),
    )
    text = build(Txt2Img(prompt="x", seed=1, subseed=2), facts)
    plain, hashes = split_hashes(text)
    assert hashes == {"model": "0123456789", "lora:a: b, c": "fedcba9876", "embed:bad": "1111111111"}
    assert explicit(plain)["Lora hashes"] == "a b c: aabbccddeeff"
    assert parse(text)["Model hash"] == "0123456789"
    assert plain.endswith("Version: sfumato 0.1.0")


def test_hires_size_is_written_as_asked():
    request = Txt2Img(seed=1, subseed=1, enable_hr=True, first_pass_width=512, first_pass_height=256, width=1024, height=512)
    pairs = explicit(build(request))
    assert (pairs["Size-1"], pairs["Size-2"]) == ("512", "256")
    assert (pairs["Hires resize-1"], pairs["Hires resize-2"]) == ("1024", "512")


def test_each_picture_has_its_seed():
    request = Txt2Img(seed=10, subseed=20, subseed_strength=0, batch_size=2, batch_count=2)
    assert [explicit(build(request, index=index))["Seed"] for index in range(4)] == ["10", "11", "12", "13"]
    varied = request.model_copy(update={"subseed_strength": 0.5})
    pairs = explicit(build(varied, index=3))
    assert (pairs["Seed"], pairs["Variation seed"]) == ("10", "23")


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("v1.5.2", "1.6"),
        ("1.6.0-RC", "1.6.0"),
        ("v1.7.0", "v1.7.0-225-g0123abc"),
        ("1.8.0-139", "1.8.0-140"),
        ("1.9.4", "1.10.0"),
    ],
)
def test_versions_sort(smaller, larger):
    assert parse_version(smaller) < parse_version(larger)


@pytest.mark.parametrize("text", ["", "f0.0.17v1.8.0", "sfumato 0.1.0", "-", "v", "1" * 200])
def test_versions_of_others_are_unknown(text):
    assert parse_version(text) is None


SIZE = 65_536
FAMILIES = {
    "letters": "a" * SIZE,
    "spaces": "x" + " " * SIZE + "x",
    "colons": ":" * SIZE,
    "commas": "," * SIZE,
    "quotes": '"' * SIZE,
    "backslashes": "\\" * SIZE,
    "pairs": "ab: 1, " * (SIZE // 7),
    "open quotes": 'ab: "\\' * (SIZE // 6),
    "lines": "a\n" * (SIZE // 2),
    "negatives": "Negative prompt:\n" * (SIZE // 17),
    "round": "(" * SIZE,
    "mixed": "([" * (SIZE // 2),
    "weights": "(:1" * (SIZE // 3),
    "breaks": " BREAK" + " " * SIZE,
    "dashes": "ab: 1, cd: 2, Version: " + "-" * SIZE,
    "hashes": ", Hashes: {" * (SIZE // 11),
}


@pytest.mark.parametrize("tail", ["", "\nSteps: 1, Seed: 2, Size: 3x4"], ids=["alone", "before parameters"])
@pytest.mark.parametrize("text", FAMILIES.values(), ids=FAMILIES)
def test_time_is_linear(text, tail):
    def seconds(text):
        best = 1e9
        for _ in range(3):
            start = time.process_time()
            to_request(text + tail)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(text) < 0.25
    assert seconds(text) < 3 * seconds(text[: SIZE // 2]) + 0.02
