"""From a request to a picture that says how it was made, and back: the whole application on small models."""

import hashlib
import json
import threading

import numpy as np
import pytest
from tests.pictures import gradient, png
from tests.tiny import SD1, random_model

from sfumato import generate, load
from sfumato.engine.checkpoint.hashes import sha256
from sfumato.engine.checkpoint.save import save_vae
from sfumato.engine.sampling.samplers import resolve
from sfumato.errors import CorruptFile, InvalidRequest, NotFound, UnsafeFile, Unsupported
from sfumato.events import Event, Finished, PhaseChanged, StepDone
from sfumato.infotext import to_request
from sfumato.picture import from_record, read
from sfumato.request import Img2Img, Txt2Img, parse
from sfumato.service.app import App
from sfumato.service.generated import GeneratedImage

SIDE = 64


@pytest.fixture
def app(place):
    return App(place)


def words(**changes):
    base = {"prompt": "a red circle", "seed": 7, "steps": 2, "width": SIDE, "height": SIDE, "sampler": "Euler", "model": "alpha"}
    return Txt2Img(**{**base, **changes})


def made(app, request):
    return [item for item in app.generate(request) if isinstance(item, GeneratedImage)]


def pixels(app, request):
    return [each.image.tobytes() for each in made(app, request)]


def test_events_and_pictures(app):
    items = list(app.generate(words(batch_size=2)))
    events = [item for item in items if isinstance(item, Event)]
    assert events[0] == PhaseChanged("load")
    assert isinstance(events[-1], Finished)
    first, second = (item for item in items if isinstance(item, GeneratedImage))
    assert (first.index, first.seed, second.index, second.seed) == (0, 7, 1, 8)
    assert first.image.size == (SIDE, SIDE)
    assert (first.origin, first.steps, first.animated) == ("generated", (), False)


def test_what_the_text_says(app, place):
    (one,) = made(app, words(negative_prompt="blue", cfg_scale=5.5, batch_size=1, clip_skip=2))
    prompt, negative, line = one.infotext.split("\n")
    assert (prompt, negative) == ("a red circle", "Negative prompt: blue")
    digest = sha256(place / "models/Stable-diffusion/alpha.safetensors")
    for part in (
        "Steps: 2",
        "Sampler: Euler",
        "CFG scale: 5.5",
        "Seed: 7",
        f"Size: {SIDE}x{SIDE}",
        f"Model hash: {digest[:10]}",
        "Model: alpha",
        "Clip skip: 2",
        "RNG: NV",
        "Version: sfumato",
    ):
        assert part in line
    assert f'"model": "{digest[:10]}"' in line


JOBS = [
    {},
    {"negative_prompt": "blue, (green:1.3)", "prompt": "a (red:1.2) [circle|square] BREAK thing AND other:0.4\nsecond line"},
    {"sampler": "DPM++ 2M SDE", "scheduler": "Karras", "eta": 0.7, "s_noise": 1.01},
    {"sampler": "Euler a", "eta_noise_seed_delta": 31337, "rng": "CPU"},
    {"subseed": 99, "subseed_strength": 0.3, "seed_resize_from_w": 128, "seed_resize_from_h": 64},
    {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent (nearest-exact)", "denoising_strength": 0.55},
    {"enable_hr": True, "hr_resize_x": 80, "hr_resize_y": 96, "hr_upscaler": "Lanczos", "hr_second_pass_steps": 3},
    {"enable_hr": True, "hr_scale": 1.25, "hr_sampler": "Heun", "hr_scheduler": "Karras", "hr_prompt": "x", "hr_cfg_scale": 2.0},
    {"enable_hr": True, "hr_scale": 1.25, "hr_checkpoint": "beta", "hr_upscaler": "Nearest"},
    {"refiner_checkpoint": "beta", "refiner_switch_at": 0.4, "steps": 4},
    {"tiling": True, "cfg_rescale": 0.3, "guidance_start": 0.1, "guidance_end": 0.9},
    {"cfg_scale": -2.5, "noise_schedule": "Zero Terminal SNR", "emphasis": "No norm"},
    {"sigma_min": 0.1, "sigma_max": 10.0, "rho": 5.0, "scheduler": "Karras", "sgm_noise_multiplier": True},
    {"sampler": "UniPC", "unipc_variant": "bh2", "unipc_order": 2, "steps": 4, "s_min_uncond": 1.0, "skip_early_cfg": 0.2},
    {"vae": "other", "clip_skip": 2},
    {"enable_hr": True, "width": 96, "height": 80, "first_pass_width": 64, "first_pass_height": 64},
]


@pytest.mark.parametrize("changes", JOBS, ids=lambda changes: ",".join(changes)[:50])
def test_made_again_from_the_text(app, put, changes, tmp_path):
    """What a picture file says is enough to make its pixels again; the record is too."""
    put("other.vae.safetensors", "VAE", "other.safetensors")
    (one,) = made(app, words(**changes))
    path = one.save(tmp_path / "one.png")
    info = read(path)
    values, warnings = to_request(info.infotext, Txt2Img, include_model=True, resolve=resolve)
    # Names of files in a text come from a stranger: what is more than a plain name is not taken over.
    assert not [text for text in warnings if "model" not in text.lower()], warnings
    if "hr_checkpoint" in changes or "refiner_checkpoint" in changes:
        values |= {key: changes[key] for key in ("hr_checkpoint", "refiner_checkpoint") if key in changes}
    assert made(app, parse(Txt2Img, values))[0].image.tobytes() == one.image.tobytes()
    request, index = from_record(json.loads(json.dumps(dict(one.record))))
    assert index == 0
    assert pixels(app, request)[0] == one.image.tobytes()


def test_one_of_a_batch_made_again(app):
    _, second = made(app, words(batch_size=2, subseed=5, subseed_strength=0.2))
    request, index = from_record(second.record)
    assert pixels(app, request)[index] == second.image.tobytes()
    values, _ = to_request(second.infotext, Txt2Img, resolve=resolve)
    assert pixels(app, parse(Txt2Img, {**values, "model": "alpha"}))[0] == second.image.tobytes()


def test_a_changed_picture(app):
    source = png(gradient(SIDE, SIDE))
    request = Img2Img(
        prompt="x", seed=1, steps=4, width=SIDE, height=SIDE, init_images=(source,), denoising_strength=0.5, model="alpha"
    )
    (one,) = made(app, request)
    assert one.origin == "composite"
    assert "Denoising strength: 0.5" in one.infotext
    assert f"Init image hash: {hashlib.md5(source).hexdigest()}" in one.infotext
    record, _ = from_record(one.record)
    assert record.init_images == (f"sha256:{hashlib.sha256(source).hexdigest()}",)


class TestStyles:
    @pytest.fixture(autouse=True)
    def _table(self, place):
        table = 'name,prompt,negative_prompt\nneon,"{prompt}, neon light",dull\nsoft,soft focus,"sharp, hard"\n'
        (place / "styles.csv").write_text(table, encoding="utf-8")

    def test_applied(self, app):
        (one,) = made(app, words(styles=("neon", "soft"), negative_prompt="blue"))
        prompt, negative, _ = one.infotext.split("\n")
        assert prompt == "a red circle, neon light, soft focus"
        assert negative == "Negative prompt: blue, dull, sharp, hard"
        plain = words(prompt="a red circle, neon light, soft focus", negative_prompt="blue, dull, sharp, hard")
        assert pixels(app, plain) == [one.image.tobytes()]

    def test_unknown(self, app):
        with pytest.raises(NotFound, match="'nein'") as caught:
            made(app, words(styles=("neon", "nein")))
        assert "neon, soft" in caught.value.advice


def test_the_size_that_follows_from_the_source(app):
    source = png(gradient(64, 48))
    (one,) = made(app, Img2Img(seed=1, steps=2, init_images=(source,), scale_by=1.5, model="alpha", sampler="Euler"))
    assert one.image.size == (96, 72)
    values, _ = to_request(one.infotext, Img2Img, resolve=resolve)
    assert (values["width"], values["height"]) == (96, 72)
    again = parse(Img2Img, {**values, "init_images": (source,), "model": "alpha"})
    assert pixels(app, again) == [one.image.tobytes()]


def test_the_record_names_the_model(app):
    (one,) = made(app, words(model=""))
    request, _ = from_record(one.record)
    assert request.model == "alpha"


def test_the_library_makes_the_same_picture(app, place):
    """What the application does around the engine, keeping transformed filters for one, changes no pixel."""
    expected = pixels(app, words(enable_hr=True, hr_scale=1.25))
    model = load(place / "models/Stable-diffusion/alpha.safetensors")
    assert [each.image.tobytes() for each in generate(words(enable_hr=True, hr_scale=1.25), model)] == expected


def test_models_take_turns(app):
    first = pixels(app, words())
    second = pixels(app, words(model="beta"))
    assert first != second
    assert pixels(app, words()) == first
    assert pixels(app, words(model="beta.safetensors")) == second


def test_a_replaced_file_is_loaded_again(app, put, shelf, place):
    first = pixels(app, words())
    path = place / "models/Stable-diffusion/alpha.safetensors"
    path.unlink()
    path.write_bytes((shelf / "beta.safetensors").read_bytes())
    (other,) = made(app, words())
    assert other.image.tobytes() != first[0]
    assert sha256(path)[:10] in other.infotext


def test_only_one_model_is_kept(app):
    for name in ("alpha", "beta"):
        made(app, words(model=name))
    assert len(app.models_in_memory._loaded) == 1
    made(app, words(refiner_checkpoint="beta", refiner_switch_at=0.4, steps=3))
    made(app, words())
    assert len(app.models_in_memory._loaded) <= 2


def test_vae_choices(app, put, place):
    inside = pixels(app, words())
    assert pixels(app, words(vae="None")) == inside
    put("other.vae.safetensors", "VAE", "other.safetensors")
    (named,) = made(app, words(vae="other"))
    assert named.image.tobytes() != inside[0]
    assert "VAE: other.safetensors" in named.infotext
    assert "VAE hash: " in named.infotext
    assert "VAE: " not in made(app, words())[0].infotext
    # A file that was replaced is read again.
    (place / "models/VAE/other.safetensors").unlink()
    save_vae(random_model(SD1, 10).vae, place / "models/VAE/other.safetensors")
    assert pixels(app, words(vae="other")) not in (inside, [named.image.tobytes()])
    # One beside the model is taken by itself, unless it is not wanted.
    put("other.vae.safetensors", "Stable-diffusion", "alpha.vae.safetensors")
    assert pixels(app, words()) == [named.image.tobytes()]
    assert pixels(app, words(vae="None")) == inside
    with pytest.raises(NotFound, match="'missing'"):
        pixels(app, words(vae="missing"))


def test_hashes_are_remembered(app, place, monkeypatch):
    (one,) = made(app, words())
    cache = json.loads((place / "cache/hashes.json").read_text())
    (entry,) = cache.values()
    assert entry["sha256"][:10] in one.infotext

    def never(path):
        raise AssertionError("it was hashed again")

    monkeypatch.setattr("sfumato.engine.checkpoint.hashes.sha256", never)
    monkeypatch.setattr("sfumato.engine.checkpoint.hashes.KINDS", {"sha256": never})
    (again,) = made(App(place), words())
    assert again.infotext == one.infotext
    assert [entry.short_hash for entry in app.models() if entry.name == "alpha"] == [entry.short_hash for entry in app.models()][
        :1
    ]


def test_cancelling_does_not_wait_for_hashes(app, monkeypatch):
    hold, begun = threading.Event(), threading.Event()

    def slow(path):
        begun.set()
        hold.wait(30)
        return "0" * 64

    monkeypatch.setattr("sfumato.engine.checkpoint.hashes.KINDS", {"sha256": slow})
    job = app.generate(words())
    while not isinstance(next(job), StepDone):
        pass
    assert begun.wait(5)
    job.close()
    # The next job waits for the same thread and starts no second one.
    threads = threading.active_count()
    again = app.generate(words())
    while not isinstance(next(again), StepDone):
        pass
    assert threading.active_count() == threads
    hold.set()
    (one,) = (item for item in again if isinstance(item, GeneratedImage))
    assert "Model hash: 0000000000" in one.infotext


@pytest.mark.parametrize("changes", [{"refiner_checkpoint": "gamma"}, {"enable_hr": True, "hr_checkpoint": "gamma"}], ids=str)
def test_every_model_is_there_before_the_work_begins(app, changes):
    job = app.generate(words(**changes))
    with pytest.raises(NotFound, match="'gamma'"):
        next(job)


class TestTaesd:
    @pytest.fixture(autouse=True)
    def _files(self, put):
        for part in ("encoder", "decoder"):
            put(f"taesd_{part}.safetensors", "VAE-approx")

    def test_preview(self, app):
        items = list(app.generate(words(preview="taesd", preview_every=1)))
        assert sum(type(item).__name__ == "Preview" for item in items) == 2
        assert not [item for item in items if type(item).__name__ == "Warned"]

    def test_decoder(self, app):
        (one,) = made(app, words(vae_decoder="TAESD"))
        assert one.image.size == (SIDE, SIDE)
        assert one.image.tobytes() != pixels(app, words())[0]
        assert "VAE Decoder: TAESD" in one.infotext

    def test_encoder(self, app):
        source = png(gradient(SIDE, SIDE))
        request = Img2Img(seed=1, steps=4, width=SIDE, height=SIDE, init_images=(source,), denoising_strength=0.5, model="alpha")
        small = request.model_copy(update={"vae_encoder": "TAESD"})
        assert pixels(app, small) != pixels(app, request)

    def test_other_family(self, app, put):
        put("large.safetensors", "Stable-diffusion")
        with pytest.raises(InvalidRequest, match="TAESD") as caught:
            pixels(app, words(model="large", vae_decoder="TAESD"))
        assert "VAE-approx" in caught.value.advice


def test_missing_taesd(app):
    with pytest.raises(InvalidRequest, match="TAESD"):
        pixels(app, words(vae_decoder="TAESD"))


def test_steps_are_kept(app, tmp_path):
    (one,) = made(app, words(keep_steps="strip", steps=3))
    assert len(one.steps) == 3
    assert not one.animated
    assert made(app, words(keep_steps="animation"))[0].animated


def test_a_random_seed_is_told(app):
    (one,) = made(app, words(seed=-1))
    assert f"Seed: {one.seed}" in one.infotext
    assert pixels(app, words(seed=one.seed)) == [one.image.tobytes()]


class TestInspect:
    def test_checkpoint(self, app, place):
        facts = app.inspect(place / "models/Stable-diffusion/alpha.safetensors")
        assert (facts["kind"], facts["base"], facts["container"]) == ("checkpoint", "sd1", "safetensors")
        assert facts["hashes"]["sha256"] == sha256(place / "models/Stable-diffusion/alpha.safetensors")
        assert "path" not in facts

    def test_vae(self, app, shelf):
        assert app.inspect(shelf / "other.vae.safetensors")["kind"] == "vae"

    def test_picture(self, app, tmp_path):
        (one,) = made(app, words())
        path = one.save(tmp_path / "one.webp")
        facts = app.inspect(path)
        assert facts["kind"] == "picture"
        assert facts["infotext"] == one.infotext
        assert facts["parameters"]["Seed"] == "7"

    def test_folder(self, app, shelf, tmp_path):
        app.convert(shelf / "alpha.safetensors", tmp_path / "folder", layout="diffusers", dtype=None, vae=None)
        assert app.inspect(tmp_path / "folder")["container"] == "folder"

    def test_what_it_cannot_read(self, app, tmp_path):
        (tmp_path / "text.safetensors").write_bytes(b"no model at all")
        (tmp_path / "text.png").write_bytes(b"no picture at all")
        with pytest.raises((CorruptFile, UnsafeFile)):
            app.inspect(tmp_path / "text.safetensors")
        with pytest.raises((CorruptFile, Unsupported)):
            app.inspect(tmp_path / "text.png")
        for name in ("none.png", "none.safetensors"):
            with pytest.raises(NotFound):
                app.inspect(tmp_path / name)


class TestConvert:
    def test_vae_baked_in(self, app, put, place, shelf):
        put("other.vae.safetensors", "VAE", "other.safetensors")
        source = place / "models/Stable-diffusion/alpha.safetensors"
        target = place / "models/Stable-diffusion/baked.safetensors"
        vae = shelf / "other.vae.safetensors"
        assert app.convert(source, target, layout="single", dtype=None, vae=vae) == target
        assert pixels(app, words(model="baked")) == pixels(app, words(vae="other"))

    def test_there_and_back(self, app, place, tmp_path):
        source = place / "models/Stable-diffusion/alpha.safetensors"
        app.convert(source, tmp_path / "folder", layout="diffusers", dtype="fp32", vae=None)
        app.convert(tmp_path / "folder", tmp_path / "again.safetensors", layout="single", dtype="fp16", vae=None)
        assert pixels(app, words(model=str(tmp_path / "again.safetensors"))) == pixels(app, words())
        assert pixels(app, words(model=str(tmp_path / "folder"))) == pixels(app, words())

    @pytest.mark.parametrize("choice", [{"layout": "double"}, {"dtype": "fp17"}])
    def test_unknown_words(self, app, tmp_path, choice):
        with pytest.raises(InvalidRequest, match=next(iter(choice.values()))):
            app.convert(tmp_path / "a", tmp_path / "b", **{"layout": "single", "dtype": None, "vae": None, **choice})


def test_a_checkpoint_that_is_none(app, place):
    for name, content in (("text", b"no model at all"), ("evil", b"\x80\x02cos\nsystem\n(U\x04trueitR.")):
        (place / f"models/Stable-diffusion/{name}.ckpt").write_bytes(content)
        with pytest.raises((UnsafeFile, CorruptFile, Unsupported), match=f"{name}.ckpt"):
            made(app, words(model=name))
    assert np.asarray(made(app, words())[0].image).std() > 5


@pytest.mark.parametrize(
    ("options", "error"),
    [({"device": "cuda:99"}, Unsupported), ({"device": "toaster"}, InvalidRequest), ({"dtype": "fp3"}, InvalidRequest)],
)
def test_wrong_devices(place, options, error):
    with pytest.raises(error):
        made(App(place, **options), words())


def test_making_one_costs_nothing(tmp_path):
    app = App(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert app.output_folder("txt2img") == tmp_path / "new" / "outputs" / "txt2img-images"
