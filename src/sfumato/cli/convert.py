"""`sfumato convert`: a model in another layout or precision."""

from __future__ import annotations

from pathlib import Path

from sfumato.cli.app import MakeApp
from sfumato.cli.options import add_app_options, folder_options
from sfumato.cli.parser import Parser
from sfumato.errors import InvalidRequest, NotFound

LAYOUTS = ("single", "diffusers")
DTYPES = ("fp32", "fp16", "bf16", "fp8")
DESCRIPTION = """\
Write a model as a single .safetensors file or as a diffusers folder, in another precision if asked for."""
EPILOG = """\
examples:
  sfumato convert old-model.ckpt model.safetensors --dtype fp16
  sfumato convert model.safetensors model-folder
"""


def run(argv: list[str], make_app: MakeApp) -> int:
    """Convert one model and print where the result lies."""
    parser = Parser("convert", "SOURCE TARGET [OPTIONS]", DESCRIPTION, EPILOG)
    parser.add_argument("paths", nargs="*", metavar="SOURCE TARGET", help="file or diffusers folder to read, and what to write")
    parser.add_argument("--layout", metavar="WORD", help="single or diffusers; follows from the target's ending by default")
    parser.add_argument("--dtype", metavar="WORD", help=f"precision: {', '.join(DTYPES)}; that of the source by default")
    parser.add_argument("--vae", type=Path, metavar="FILE", help="a VAE to put in place of the model's own")
    parser.add_argument("--overwrite", action="store_true", help="replace a target that exists")
    add_app_options(parser, device=False)
    found = parser.read(argv, "paths")
    if len(found.paths) != 2:
        parser.error("a source and a target are needed")
    source, target = (Path(name).expanduser() for name in found.paths)
    layout = getattr(found, "layout", "single" if target.suffix.lower() == ".safetensors" else "diffusers")
    dtype = getattr(found, "dtype", None)
    if layout not in LAYOUTS:
        raise InvalidRequest(f"--layout: {layout[:60]!r} is not one of {', '.join(LAYOUTS)}.")
    if dtype is not None and dtype not in DTYPES:
        raise InvalidRequest(f"--dtype: {dtype[:60]!r} is not one of {', '.join(DTYPES)}.")
    if layout == "single" and target.suffix.lower() != ".safetensors":
        raise InvalidRequest(f"{target.name!r} does not end in .safetensors.", advice="Other single-file formats are read only.")
    if not source.exists():
        raise NotFound(f"There is no file {str(source)!r}.")
    if target.exists() and not hasattr(found, "overwrite"):
        raise InvalidRequest(f"{str(target)!r} is there already.", advice="Add --overwrite, or name another target.")
    app = make_app(folder_options(found))
    print(app.convert(source, target, layout=layout, dtype=dtype, vae=getattr(found, "vae", None)))
    return 0
