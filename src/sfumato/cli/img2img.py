"""`sfumato img2img`: pictures from a picture and words."""

from __future__ import annotations

from sfumato.cli.app import MakeApp
from sfumato.cli.generate import GenerateVerb
from sfumato.request import Img2Img

VERB = GenerateVerb(
    "img2img",
    Img2Img,
    "Make pictures from a picture (--image) and words. The path of each picture is printed on standard output.",
    """\
examples:
  sfumato img2img "an oil painting" --image photo.jpg --strength 0.6 --output painting.png
  sfumato img2img "a cat" --image sketch.png --size 768x512 --resize-mode "resize and fill"
""",
)


def run(argv: list[str], make_app: MakeApp) -> int:
    """Run the verb; see `--help`."""
    return VERB.run(argv, make_app)
