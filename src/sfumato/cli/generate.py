"""What txt2img and img2img share: from options to requests, from events to a bar, from pictures to files."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sfumato.cli.app import Application, MakeApp, Picture
from sfumato.cli.options import add_app_options, app_options, foreign_notes, warn
from sfumato.cli.output import FORMATS, Output, choose_format
from sfumato.cli.parameters import add_parameters, build, given_values, read_size
from sfumato.cli.parser import Parser
from sfumato.cli.progress import ProgressBar
from sfumato.cli.prompts import read_line, read_lines
from sfumato.errors import InvalidRequest, NotFound
from sfumato.events import Event
from sfumato.request import Img2Img, Txt2Img

R = TypeVar("R", Txt2Img, Img2Img)


@dataclass(frozen=True)
class GenerateVerb(Generic[R]):
    """A verb that makes pictures: its name, its request and its help."""

    name: str
    cls: type[R]
    description: str
    epilog: str

    def parser(self) -> Parser:
        """The parser with the options of the verb and those of the request."""
        parser = Parser(self.name, "[PROMPT] [OPTIONS]", self.description, self.epilog)
        parser.add_argument("words", nargs="*", metavar="PROMPT", help="what the picture shows; after -- it may begin with '-'")
        files = parser.add_argument_group("Files")
        files.add_argument(
            "-o", "--output", metavar="PATH", help="file, folder or pattern such as [date]/[seed]-[prompt_words].png"
        )
        files.add_argument("--output-dir", type=Path, metavar="DIR", help="folder for numbered pictures")
        files.add_argument("--format", metavar="WORD", help=f"picture format: {', '.join(FORMATS)}")
        files.add_argument("--grid", action="store_true", help="also save all pictures of a prompt in one, beside the first")
        files.add_argument("--prompts-from", metavar="FILE", help="one prompt (or line of --key value) per line; - reads them")
        files.add_argument("--infotext", metavar="TEXT", help="start from the parameters of a picture file, text file or text")
        files.add_argument("--json", action="store_true", help="one JSON object per picture on standard output")
        files.add_argument("--progress", action="store_true", help="show the bar even where nobody seems to watch")
        for flag, text in (("--no-progress", "never show it"), ("--disable-console-progressbars", argparse.SUPPRESS)):
            files.add_argument(flag, dest="progress", action="store_false", help=text)
        short = parser.add_argument_group("Short forms")
        short.add_argument("--size", metavar="WxH", help="width and height at once")
        for flag, value in (("--preview-strip", "strip"), ("--animation", "animation")):
            short.add_argument(flag, dest="keep_steps", action="store_const", const=value, help=f"same as --keep-steps {value}")
        add_parameters(parser, self.cls)
        add_app_options(parser)
        return parser

    def run(self, argv: list[str], make_app: MakeApp) -> int:
        """Make the pictures that `argv` asks for; everything is checked before a model is loaded."""
        found = self.parser().read(argv, "words")
        options = app_options(found)
        output: str | None = getattr(found, "output", None)
        suffix = choose_format(output, getattr(found, "format", None))
        for note in foreign_notes(found):
            warn(found, note)
        application = functools.cache(lambda: make_app(options))
        requests = list(self.requests(found, application))
        app = application()
        folder = getattr(found, "output_dir", None) or app.output_folder(self.name)
        total = sum(request.images for request in requests)
        self.make(app, requests, Output(output, folder, suffix, total), found)
        return 0

    def requests(self, found: argparse.Namespace, application: Callable[[], Application]) -> Iterator[R]:
        """The requests: one, or one for each line of `--prompts-from`."""
        values = given_values(found, self.cls)
        if hasattr(found, "size"):
            values = read_size(found.size) | values  # the more precise option wins
        if self.cls is Img2Img and not values.get("init_images"):
            raise InvalidRequest("img2img needs a picture.", advice="Name one with --image FILE.")
        if found.words:
            if "prompt" in values:
                raise InvalidRequest("The prompt is given twice.", advice="Use either the words or --prompt.")
            values["prompt"] = " ".join(found.words)
        if hasattr(found, "infotext"):
            values = self.pasted(found, application) | values
        if not hasattr(found, "prompts_from"):
            yield build(self.cls, values)
            return
        lines = read_lines(found.prompts_from)
        if not lines:
            raise InvalidRequest(f"{found.prompts_from!r} holds no prompt.")
        for number, line in lines:
            place = f"line {number}: "
            try:
                own = read_line(line, self.cls)
            except InvalidRequest as error:
                raise InvalidRequest(f"{place}{error.message}", advice=error.advice) from None
            if values.get("prompt") and "prompt" in own:
                own["prompt"] = f"{values['prompt']} {own['prompt']}"
            yield build(self.cls, values | own, place)

    def pasted(self, found: argparse.Namespace, application: Callable[[], Application]) -> dict[str, Any]:
        """The values of `--infotext`; what cannot be taken over is said."""
        from sfumato.infotext.paste import to_request

        text: str = found.infotext
        with contextlib.suppress(OSError):  # a parameters text is no valid file name
            path = Path(text).expanduser()
            if path.is_file():
                is_text = path.suffix.lower() == ".txt"
                text = path.read_text(encoding="utf-8") if is_text else str(application().inspect(path).get("infotext", ""))
            elif "\n" not in text and path.suffix.lower() in (".txt", *(f".{name}" for name in FORMATS)):
                raise NotFound(f"There is no file {text!r}.")
        values, warnings = to_request(text, self.cls)
        for warning in warnings:
            warn(found, warning)
        return values

    def make(self, app: Application, requests: Sequence[R], output: Output, found: argparse.Namespace) -> None:
        """Run the requests one after another and save what comes."""
        quiet = hasattr(found, "quiet")
        shown = getattr(found, "progress", sys.stderr.isatty() and not quiet)
        as_json = hasattr(found, "json")
        for number, request in enumerate(requests, 1):
            label = f"[{number}/{len(requests)}] " if len(requests) > 1 else ""
            began = time.monotonic()
            made: list[tuple[Path, Picture]] = []
            with contextlib.closing(_closable(app, request)) as stream, ProgressBar(shown=shown, quiet=quiet, label=label) as bar:
                for item in stream:
                    if isinstance(item, Event):
                        bar.update(item)
                        continue
                    path = output.save(item, request)
                    if hasattr(found, "grid"):
                        made.append((path, item))
                    facts = {
                        "path": str(path),
                        "index": item.index,
                        "seed": item.seed,
                        "width": item.image.width,
                        "height": item.image.height,
                        "seconds": round(time.monotonic() - began, 3),
                        "infotext": item.infotext,
                    }
                    bar.result(json.dumps(facts, ensure_ascii=False) if as_json else str(path))
                if len(made) > 1:
                    path = save_grid(made)
                    bar.result(json.dumps({"path": str(path), "grid": len(made)}) if as_json else str(path))


def save_grid(made: Sequence[tuple[Path, Picture]]) -> Path:
    """Save pictures as one, beside the first of them and with its parameters; says where."""
    from sfumato.files import write_atomic
    from sfumato.picture import encode, format_of, grid

    first, picture = made[0]
    sheet = encode(grid([each.image for _, each in made]), format_of(first.suffix), infotext=picture.infotext)
    path = first.with_name(f"{first.stem}-grid{sheet.extension}")
    write_atomic(path, sheet.data)
    return path


def _closable(app: Application, request: Txt2Img | Img2Img) -> Generator[Event | Picture]:
    """The stream as a generator of our own: closing it, also after Ctrl-C, closes the application's."""
    yield from app.generate(request)
