"""`sfumato txt2img`: pictures from words."""

from __future__ import annotations

from sfumato.cli.app import MakeApp
from sfumato.cli.generate import GenerateVerb
from sfumato.request import Txt2Img

VERB = GenerateVerb(
    "txt2img",
    Txt2Img,
    "Make pictures from words. The path of each picture is printed on standard output, progress on standard error.",
    """\
examples:
  sfumato txt2img "a red circle on a white background" --seed 1 --output picture.png
  sfumato txt2img "a cat" --count 4 --steps 30 --sampler "DPM++ 2M" --scheduler Karras --output "cats/[seed].webp"
  sfumato txt2img "a cat" --size 512x768 --hires --hr-scale 1.5 --hr-upscaler Latent
  sfumato txt2img --prompts-from prompts.txt --output-dir pictures --json
""",
)


def run(argv: list[str], make_app: MakeApp) -> int:
    """Run the verb; see `--help`."""
    return VERB.run(argv, make_app)
