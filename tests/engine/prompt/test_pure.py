"""Reading prompts needs no torch."""

import subprocess
import sys

MODULES = ("attention", "chunks", "comments", "compose", "extra_networks", "grammar", "timeline")


def test_text_modules_do_not_import_torch():
    code = "import sys; sys.modules['torch'] = None\n" + "\n".join(f"import sfumato.engine.prompt.{name}" for name in MODULES)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
