"""The verbs, through their entry, with a fake application."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.cli.fake_app import FakeApp, FakeModel

from sfumato.cli.info import lines
from sfumato.cli.main import VERBS, main
from sfumato.cli.parameters import ALIASES
from sfumato.request import Img2Img, Txt2Img, fields

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def app(tmp_path: Path) -> FakeApp:
    return FakeApp(tmp_path / "outputs")


@pytest.fixture
def run(app: FakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in an empty folder; answers with exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        code = main(list(words), app)
        out, err = capfd.readouterr()
        return code, out, err

    return call


class TestEntry:
    @pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
    def test_help_lists_the_verbs(self, run: Run, words: tuple[str, ...]) -> None:
        code, out, _ = run(*words)
        assert code == 0
        assert all(f"  {verb.name} " in out for verb in VERBS)

    def test_version(self, run: Run) -> None:
        assert re.fullmatch(r"\d+\.\d+\.\d+\n", run("--version")[1])

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["txt2image"], "sfumato: There is no verb 'txt2image'. Did you mean txt2img?\n"),
            (["--listen"], "sfumato: The first word must be a verb, not '--listen'."),
            (["x" * 5000], "sfumato: There is no verb '" + "x" * 100 + "'."),
        ],
    )
    def test_unknown_verb(self, run: Run, words: list[str], expected: str) -> None:
        code, out, err = run(*words)
        assert (code, out) == (2, "")
        assert err.startswith(expected)

    def test_debug_shows_the_trace(self, run: Run) -> None:
        assert "Traceback" not in run("nonsense")[2]
        assert "Traceback" in run("nonsense", "--debug")[2]
        assert "Traceback" in run("--debug", "nonsense")[2]

    def test_an_error_of_the_system_is_one_line(self, run: Run) -> None:
        code, _, err = run("txt2img", "x", "--output", "/dev/null/x/y.png")
        assert code == 1
        assert err.startswith("sfumato: ")
        assert err.count("\n") == 1

    def test_a_place_that_cannot_be_written_is_found_out_first(self, run: Run, app: FakeApp, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for words in (["--output", "file/x.png"], ["--output-dir", "file"], ["--output", "file/[seed].png"]):
            assert run("txt2img", "x", *words)[0] == 1
        assert app.requests == []


class TestHelp:
    @pytest.mark.parametrize("verb", ["txt2img", "img2img"])
    def test_every_available_parameter_is_explained(self, verb: str, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main([verb, "--help"])
        assert caught.value.code == 0
        out = capfd.readouterr().out
        for parameter in fields(Txt2Img if verb == "txt2img" else Img2Img):
            shown = re.search(rf"(--no)?{re.escape(parameter.flag.removeprefix('-'))}\b", out)
            assert bool(shown) == parameter.available, parameter.name
            assert not parameter.available or f"\n{parameter.group}:" in out

    @pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
    def test_help_of_each_verb(self, verb: str, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["help", verb])
        assert caught.value.code == 0
        assert f"usage: sfumato {verb}" in capfd.readouterr().out

    def test_aliases_belong_to_parameters(self) -> None:
        names = {parameter.name for cls in (Txt2Img, Img2Img) for parameter in fields(cls)}
        assert set(ALIASES) <= names


class TestOptions:
    def test_values_reach_the_request(self, run: Run, app: FakeApp) -> None:
        code, *_ = run(
            "txt2img", "a", "red cat", "--seed", "-1", "--cfg-scale", "-3.5", "--tiling", "--style", "one", "--style", "two"
        )
        assert code == 0
        assert app.requests == [Txt2Img(prompt="a red cat", seed=-1, cfg_scale=-3.5, tiling=True, styles=("one", "two"))]

    def test_options_may_come_first(self, run: Run, app: FakeApp) -> None:
        run("txt2img", "--seed", "5", "a cat", "--steps", "2")
        assert app.requests == [Txt2Img(prompt="a cat", seed=5, steps=2)]

    @pytest.mark.parametrize("name", ["--sampler-name", "--sampler", "--sampler_name", "--sampler-index"])
    def test_spellings_of_a1111(self, run: Run, app: FakeApp, name: str) -> None:
        run("txt2img", "x", name, "Heun", "--n_iter", "2", "--negative-prompt", "dog", "--CLIP-stop-at-last-layers", "2")
        assert app.requests == [Txt2Img(prompt="x", sampler="Heun", batch_count=2, negative_prompt="dog", clip_skip=2)]

    def test_switches_have_an_opposite(self, run: Run, app: FakeApp) -> None:
        run("txt2img", "x", "--no-tiling", "--no-enable-prompt-comments")
        run("txt2img", "x", "--enable-prompt-comments")
        assert app.requests == [Txt2Img(prompt="x", enable_prompt_comments=False), Txt2Img(prompt="x")]

    @pytest.mark.parametrize("text", ["768x512", "768X512", "768×512", " 768 , 512 "])
    def test_size(self, run: Run, app: FakeApp, text: str) -> None:
        run("txt2img", "x", "--size", text)
        assert (app.requests[0].width, app.requests[0].height) == (768, 512)

    def test_the_more_precise_size_wins(self, run: Run, app: FakeApp) -> None:
        run("txt2img", "x", "--width", "64", "--size", "128x256")
        assert (app.requests[0].width, app.requests[0].height) == (64, 256)

    def test_a_prompt_may_begin_with_a_dash(self, run: Run, app: FakeApp) -> None:
        run("txt2img", "--steps", "3", "--", "-cat", "--seed", "--debug")
        run("txt2img", "- a cat")
        assert [request.prompt for request in app.requests] == ["-cat --seed --debug", "- a cat"]

    def test_keep_steps(self, run: Run, app: FakeApp) -> None:
        run("txt2img", "x", "--preview-strip")
        run("txt2img", "x", "--animation")
        assert [request.keep_steps for request in app.requests] == ["strip", "animation"]

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--stpes", "5"], "There is no option '--stpes'. Did you mean --steps?"),
            (["-cat"], "There is no option '-cat'. A prompt that begins with '-' goes behind '--'."),
            (["--seed"], "--seed lacks its value."),
            (["--steps", "many"], "--steps: 'many' was given, but it must be a whole number"),
            (["--steps", "1e9"], "--steps: '1e9' was given"),
            (["--cfg-scale", "nan"], "--cfg-scale: 'nan' was given, but it must be a number"),
            (["--width", "0"], "--width: '0' was given, but it must be a whole number from 16"),
            (["--emphasis", "loud"], "one of 'Original', 'No norm'"),
            (["--size", "5"], "'5' is not a size. Give width and height"),
            (["--size", "9" * 99999], "is not a size"),
            (["--prompt", "y"], "The prompt is given twice."),
            (["--format", "gif"], "'gif' is no picture format. Formats: png"),
            (["--output", "x.gif"], "'gif' is no picture format."),
            (["--output", "x.png", "--format", "webp"], "--output ends in .png, but --format is webp."),
            (["--dtype", "fp4"], "--dtype: 'fp4' is not one of auto, fp32"),
            (["--memory", "lots"], "--memory: 'lots' is not one of"),
            (["--precision", "x"], "--precision: 'x'"),
            (["--infotext", "x" * 300_000], "The text has 300000 characters."),
        ],
    )
    def test_refusals(self, run: Run, app: FakeApp, words: list[str], expected: str) -> None:
        began = time.perf_counter()
        code, out, err = run("txt2img", "x", *words)
        assert (code, out) == (2, "")
        assert expected in err
        assert "Traceback" not in err
        assert app.requests == []
        assert time.perf_counter() - began < 2

    def test_device_and_memory(self, run: Run, app: FakeApp) -> None:
        run("txt2img", "x", "--medvram", "--no-half", "--device-id", "1", "--models-dir", "m")
        assert (app.options.memory, app.options.dtype, app.options.device) == ("medium", "fp32", "cuda:1")
        assert app.options.models_dir == Path("m")
        run("txt2img", "x", "--use-cpu", "all", "--precision", "full")
        assert (app.options.device, app.options.dtype, app.options.memory) == ("cpu", "fp32", "auto")

    def test_flags_of_a1111s_server_do_no_harm(self, run: Run, app: FakeApp) -> None:
        code, _, err = run("txt2img", "x", "--xformers", "--listen", "--port", "7860", "--theme", "dark")
        assert code == 0
        assert "warning: --xformers has no effect: the fastest exact attention" in err
        assert "warning: --listen, --port, --theme: not used by this verb." in err

    @pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
    def test_every_verb_accepts_a_command_line_made_for_a1111(self, run: Run, tmp_path: Path, verb: str) -> None:
        (tmp_path / "a.ckpt").write_bytes(b"x")
        needed = {
            "info": ["a.ckpt"],
            "img2img": ["--image", "a.ckpt"],
            "convert": ["a.ckpt", "b"],
            "bench": ["--repeat", "1"],
            "train": ["r"],
            "evaluate": ["m"],
        }
        words = needed.get(verb, [])
        foreign = "--listen --api --port 7860 --xformers --medvram --no-half --theme dark --vae-dir x --use-cpu sd interrogate"
        foreign += " --sub-quad-q-chunk-size 256 --always-batch-cond-uncond --no-progressbar-hiding --gfpgan-dir x"
        assert run(verb, *words, *foreign.split())[0] == 0

    def test_modules_for_the_cpu_do_not_swallow_the_prompt_unseen(self, run: Run) -> None:
        code, _, err = run("txt2img", "--use-cpu", "all", "a cat")
        assert code == 2
        assert "'a cat'" in err

    def test_quiet(self, run: Run) -> None:
        code, out, err = run("txt2img", "x", "--xformers", "--quiet")
        assert (code, err) == (0, "")
        assert out


class TestImg2Img:
    def test_pictures_are_read(self, run: Run, app: FakeApp, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"one")
        (tmp_path / "b.png").write_bytes(b"two")
        code, *_ = run("img2img", "x", "--image", "a.png", "-i", "b.png", "--strength", "0.3", "--mask", "a.png")
        assert code == 0
        request = app.requests[0]
        assert isinstance(request, Img2Img)
        assert request.init_images == (b"one", b"two")
        assert (request.mask, request.denoising_strength) == (b"one", 0.3)

    def test_missing_picture(self, run: Run) -> None:
        code, _, err = run("img2img", "x", "--image", "none.png")
        assert (code, err) == (3, "sfumato: There is no file 'none.png'.\n")

    def test_no_picture(self, run: Run) -> None:
        assert run("img2img", "x") == (2, "", "sfumato: img2img needs a picture. Name one with --image FILE.\n")

    def test_folder_for_a_picture(self, run: Run, tmp_path: Path) -> None:
        assert run("img2img", "x", "--image", str(tmp_path))[0] == 2


class TestOutput:
    def test_numbered_in_the_output_folder(self, run: Run, app: FakeApp) -> None:
        code, out, _ = run("txt2img", "x", "--seed", "7", "--count", "2")
        assert code == 0
        assert [Path(line).name for line in out.splitlines()] == ["00000-7.png", "00001-8.png"]
        assert run("txt2img", "x", "--seed", "7")[1].strip().endswith("txt2img-images/00002-7.png")

    def test_named(self, run: Run, tmp_path: Path) -> None:
        assert run("txt2img", "x", "--output", "new/picture.jpg")[1] == "new/picture.jpg\n"
        with Image.open(tmp_path / "new/picture.jpg") as image:
            assert image.format == "JPEG"

    def test_named_and_several(self, run: Run, tmp_path: Path) -> None:
        run("txt2img", "x", "--output", "p.webp", "--count", "2", "--batch-size", "2")
        assert sorted(path.name for path in tmp_path.glob("p*")) == ["p-1.webp", "p-2.webp", "p-3.webp", "p-4.webp"]

    def test_a_given_name_is_replaced(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "p.png").write_text("old")
        run("txt2img", "x", "-o", "p.png")
        assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize("name", ["folder", "folder/"])
    def test_a_folder(self, run: Run, tmp_path: Path, name: str) -> None:
        (tmp_path / "folder").mkdir()
        assert run("txt2img", "x", "--seed", "1", "--output", name, "--format", "webp")[1] == "folder/00000-1.webp\n"

    def test_output_dir(self, run: Run) -> None:
        assert run("txt2img", "x", "--seed", "1", "--output-dir", "d")[1] == "d/00000-1.png\n"

    def test_pattern(self, run: Run, tmp_path: Path) -> None:
        words = ("txt2img", "a/../cat", "--seed", "4", "--steps", "3", "--output", "out/[steps]/[seed]-[prompt].png")
        assert run(*words)[1] == "out/3/4-a_.._cat.png\n"
        assert run(*words)[1] == "out/3/4-a_.._cat-1.png\n"
        assert len(list((tmp_path / "out").rglob("*.png"))) == 2

    def test_pattern_without_ending(self, run: Run) -> None:
        assert run("txt2img", "x", "--seed", "4", "--output", "[seed]")[1] == "4.png\n"

    def test_json(self, run: Run) -> None:
        _, out, _ = run("txt2img", "ein Bär 絵", "--seed", "9", "--count", "2", "--json", "--size", "64x128")
        first, second = (json.loads(line) for line in out.splitlines())
        assert (first["seed"], second["seed"], first["index"], second["index"]) == (9, 10, 0, 1)
        assert (first["width"], first["height"]) == (8, 16)
        assert first["infotext"].startswith("ein Bär 絵\n")
        assert Path(first["path"]).is_file()


class TestProgress:
    def test_no_bar_where_nobody_watches(self, run: Run) -> None:
        assert run("txt2img", "x")[2] == "warning: a small one\n"

    def test_bar_when_asked(self, run: Run) -> None:
        err = run("txt2img", "x", "--steps", "4", "--progress")[2]
        assert "4/4 steps" in err
        assert "it/s" in err or "s/it" in err
        assert "warning: a small one" in err

    def test_no_bar_when_unwanted(self, run: Run) -> None:
        for flag in ("--no-progress", "--disable-console-progressbars"):
            assert "steps" not in run("txt2img", "x", "--progress", flag)[2]

    def test_interrupt_cancels_cleanly(self, run: Run, app: FakeApp) -> None:
        app.interrupt_at = 3
        code, out, err = run("txt2img", "x")
        assert (code, out) == (130, "")
        assert err.endswith("sfumato: Cancelled.\n")
        assert app.closed == 1

    def test_a_closed_pipe_ends_quietly(self, app: FakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "w") as pipe:
            monkeypatch.setattr(sys, "stdout", pipe)
            assert main(["txt2img", "x", "--output", str(tmp_path / "x.png")], app) == 1
        assert app.closed == 1


class TestPromptsFrom:
    def requests(self, run: Run, app: FakeApp, tmp_path: Path, text: str, *words: str) -> list[Txt2Img | Img2Img]:
        (tmp_path / "prompts.txt").write_text(text, encoding="utf-8")
        code, _, err = run("txt2img", "--prompts-from", "prompts.txt", *words)
        assert code == 0, err
        return app.requests

    def test_a_prompt_per_line(self, run: Run, app: FakeApp, tmp_path: Path) -> None:
        found = self.requests(run, app, tmp_path, "\ufeffone\r\n\n  two -- with dashes  \n", "--steps", "2")
        assert found == [Txt2Img(prompt="one", steps=2), Txt2Img(prompt="two -- with dashes", steps=2)]

    def test_lines_of_keys(self, run: Run, app: FakeApp, tmp_path: Path) -> None:
        text = (
            '--prompt a red cat --negative_prompt a dog --steps 9 --sampler_name "DPM++ 2M" --n_iter 2 --outpath_samples x\n'
            "--prompt 'b' --styles 'one, two' --tiling true --width=64 --sd_model m"
        )
        first, second = self.requests(run, app, tmp_path, text)
        assert first == Txt2Img(prompt="a red cat", negative_prompt="a dog", steps=9, sampler="DPM++ 2M", batch_count=2)
        assert second == Txt2Img(prompt="b", styles=("one", "two"), tiling=True, width=64, model="m")

    def test_the_given_prompt_comes_first(self, run: Run, app: FakeApp, tmp_path: Path) -> None:
        assert [r.prompt for r in self.requests(run, app, tmp_path, "one\n--steps 3", "a photo,")] == ["a photo, one", "a photo,"]

    def test_standard_input(self, run: Run, app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
        assert run("txt2img", "--prompts-from", "-", "--output", "p.png")[1] == "p-1.png\np-2.png\n"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (b"fine\n--stepz 5", "line 2: there is no parameter 'stepz'. Did you mean steps?"),
            (b"--steps", "line 1: steps lacks its value."),
            (b"--steps 5 6", "line 1: '6' stands where a --key is expected."),
            (b"--prompt 'open", "line 1: a quotation mark is without its partner."),
            (b"--steps x", "line 1: --steps: 'x' was given, but it must be a whole number"),
            (b"", "holds no prompt."),
            (b"\xff\xfe", "is not a text in UTF-8."),
        ],
    )
    def test_refusals(self, run: Run, app: FakeApp, tmp_path: Path, text: bytes, expected: str) -> None:
        (tmp_path / "p.txt").write_bytes(text)
        code, _, err = run("txt2img", "--prompts-from", "p.txt")
        assert code == 2
        assert expected in err
        assert app.requests == []

    def test_missing_file(self, run: Run) -> None:
        assert run("txt2img", "--prompts-from", "none.txt")[0] == 3


class TestInfotext:
    TEXT = "a cat\nNegative prompt: dog\nSteps: 7, Sampler: Euler, CFG scale: 5, Seed: 3, Size: 64x128, Clip skip: 2"

    def test_text_and_what_overrides_it(self, run: Run, app: FakeApp) -> None:
        assert run("txt2img", "--infotext", self.TEXT, "--steps", "9")[0] == 0
        request = app.requests[0]
        assert (request.prompt, request.negative_prompt, request.steps, request.seed) == ("a cat", "dog", 9, 3)
        assert (request.width, request.height, request.clip_skip) == (64, 128, 2)

    def test_files(self, run: Run, app: FakeApp, tmp_path: Path) -> None:
        (tmp_path / "t.txt").write_text(self.TEXT, encoding="utf-8")
        (tmp_path / "p.png").write_bytes(b"")
        run("txt2img", "--infotext", "t.txt")
        run("txt2img", "--infotext", "p.png")
        assert [request.seed for request in app.requests] == [3, 3]

    def test_a_file_that_is_not_there_is_no_text(self, run: Run, app: FakeApp) -> None:
        code, _, err = run("txt2img", "x", "--infotext", "gone.png")
        assert (code, app.requests) == (3, [])
        assert "There is no file 'gone.png'." in err

    def test_what_is_not_taken_over_is_said(self, run: Run) -> None:
        assert "warning: " in run("txt2img", "--infotext", "x\nSteps: 5, Sampler: Euler, Seed: 1, Strange thing: 4")[2]


class TestInfo:
    def test_text(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"")
        code, out, _ = run("info", "a.png")
        assert code == 0
        assert "infotext:\n  a cat\n  Steps: 7, Sampler: Euler, Seed: 3\nsize:\n  width: 8\n" in out
        assert "empty" not in out

    def test_a_strangers_file_does_not_steer_the_terminal(self) -> None:
        facts = {
            "a\x1b[2J": "b\x1b]0;title\x07\u202ec",
            "text": "one\n\x9btwo",
            "list": ["\x00"],
            "long": "x" * 10_000,
            "emoji": "👩‍👧",
        }
        shown = "\n".join(lines(facts))
        assert not set(shown) & set("\x1b\x07\x9b\x00\u202e")
        assert "text:\n  one\n  \\x9btwo\n" in shown
        assert "… (10000 characters; --json shows all)" in shown
        assert "👩‍👧" in shown

    def test_json_and_errors_of_single_files(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"")
        (tmp_path / "b.bad").write_bytes(b"")
        code, out, _ = run("info", "b.bad", "a.png", "none.png", "--json")
        bad, good, missing = (json.loads(line) for line in out.splitlines())
        assert code == 3
        assert bad["error"] == {"code": "corrupt_file", "message": "The file is cut. Copy it again."}
        assert good["kind"] == "picture"
        assert missing["error"]["code"] == "not_found"

    def test_error_in_words(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "b.bad").write_bytes(b"")
        assert run("info", "b.bad") == (4, "", "sfumato: b.bad: The file is cut. Copy it again.\n")

    def test_nothing_named(self, run: Run) -> None:
        assert run("info")[0] == 2


class TestModels:
    def test_table_and_json(self, run: Run, app: FakeApp) -> None:
        app.entries = (FakeModel("a", "sub/a.safetensors", Path("x")), FakeModel("b", "b", Path("y"), "vae", 335_000_000, ""))
        out = run("models")[1]
        assert out.splitlines()[1] == "a     checkpoint  2.13 GB   abcdef0123  sub/a.safetensors"
        assert out.splitlines()[2] == "b     vae         335.0 MB              b"
        rows = [json.loads(line) for line in run("models", "--json", "--kind", "vae")[1].splitlines()]
        assert [(row["name"], row["size"]) for row in rows] == [("b", 335_000_000)]

    def test_none(self, run: Run) -> None:
        assert "There is no model yet" in run("models")[1]

    def test_word_too_many(self, run: Run) -> None:
        assert "'x' is one word too many." in run("models", "x")[2]


class TestConvert:
    @pytest.mark.parametrize(("target", "layout"), [("b.safetensors", "single"), ("folder", "diffusers")])
    def test_layout_follows_from_the_target(self, run: Run, app: FakeApp, tmp_path: Path, target: str, layout: str) -> None:
        (tmp_path / "a.ckpt").write_bytes(b"")
        assert run("convert", "a.ckpt", target, "--dtype", "fp16") == (0, f"{target}\n", "")
        assert app.converted == [(Path("a.ckpt"), Path(target), {"layout": layout, "dtype": "fp16", "vae": None})]

    @pytest.mark.parametrize(
        ("words", "code", "expected"),
        [
            (["a.ckpt"], 2, "A source and a target are needed."),
            (["none", "b.safetensors"], 3, "There is no file 'none'."),
            (["a.ckpt", "a.ckpt", "--layout", "single"], 2, "does not end in .safetensors"),
            (["a.ckpt", "there.safetensors"], 2, "is there already. Add --overwrite"),
            (["a.ckpt", "b", "--layout", "tree"], 2, "--layout: 'tree' is not one of single, diffusers."),
            (["a.ckpt", "b", "--dtype", "int4"], 2, "--dtype: 'int4' is not one of fp32"),
        ],
    )
    def test_refusals(self, run: Run, app: FakeApp, tmp_path: Path, words: list[str], code: int, expected: str) -> None:
        (tmp_path / "a.ckpt").write_bytes(b"")
        (tmp_path / "there.safetensors").write_bytes(b"")
        found, _, err = run("convert", *words)
        assert found == code
        assert expected in err
        assert app.converted == []


class TestBench:
    def test_figures(self, run: Run, app: FakeApp) -> None:
        _, out, _ = run("bench", "--steps", "3", "--repeat", "2", "--size", "64x64", "--json")
        facts = json.loads(out)
        assert len(app.requests) == 3
        assert set(app.requests) == {app.requests[0]}
        assert facts["steps"] == 3
        assert all(facts[name] >= 0 for name in ("first_s", "step_s", "decode_s", "total_s", "encode_s", "steps_per_s"))
        assert "step s" in run("bench", "--repeat", "1")[1]

    @pytest.mark.parametrize("words", [["--repeat", "0"], ["--repeat", "x"], ["--steps", "0"], ["--size", "x"]])
    def test_refusals(self, run: Run, app: FakeApp, words: list[str]) -> None:
        assert run("bench", *words)[0] == 2
        assert app.requests == []


class TestTrain:
    def test_recipe_and_changes(self, run: Run, app: FakeApp) -> None:
        assert run("train", "r.toml", "--set", "loop.steps=5", "--minutes", "3", "-o", "here")[0] == 0
        assert app.trained == [("r.toml", Path("here"), {"loop.steps": "5", "loop.minutes": "3"})]

    @pytest.mark.parametrize("words", [[], ["a", "b"], ["a", "--set", "x"], ["a", "--set", "=1"]])
    def test_refusals(self, run: Run, app: FakeApp, words: list[str]) -> None:
        assert run("train", *words)[0] == 2
        assert app.trained == []


class TestEvaluate:
    def test_rows(self, run: Run, app: FakeApp) -> None:
        code, out, _ = run("evaluate", "starter", "--prompts", "4", "--seeds", "1", "--cfg-scale", "3.5", "--side", "128")
        assert code == 0
        assert out.split() == ["relations", "50.0", "%", "(40.0", "..", "60.0,", "12", "pictures;", "goal", "85)"]
        ((model, choices),) = app.evaluated
        assert model == "starter"
        assert choices == {"prompts": 4, "seeds": 1, "steps": 20, "guidance": 3.5, "sampler": "DPM++ 2M", "size": 128}
        assert json.loads(run("evaluate", "starter", "--json")[1])["value"] == 50.0

    @pytest.mark.parametrize(
        "words",
        [[], ["a", "b"], ["a", "--prompts", "0"], ["a", "--seeds", "x"], ["a", "--cfg-scale", "nan"], ["a", "--side", "9" * 99]],
    )
    def test_refusals(self, run: Run, app: FakeApp, words: list[str]) -> None:
        assert run("evaluate", *words)[0] == 2
        assert app.evaluated == []


def test_a_name_beyond_all_bounds_is_not_repeated(run: Run) -> None:
    code, _, err = run("info", "x" * 5000)
    assert code != 0
    assert "x" * 100 in err
    assert len(err) < 500


def test_a_folder_that_takes_nothing_is_found_before_any_work(
    app: FakeApp, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    code, out, err = run("txt2img", "x", "--output", "made/x.png")
    assert code == 1
    assert out == ""
    assert "Nothing may be written here: made" in err
    assert not app.requests


def test_a_request_to_end_ends_as_ctrl_c_does(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("pathlib.Path.mkdir", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    code, out, err = run("txt2img", "x", "--output", "made/x.png")
    assert (code, out) == (130, "")
    assert "Cancelled." in err
    assert signal.getsignal(signal.SIGTERM) is before
