"""The launcher's unhappy paths, with a stand-in for pip and for the environment: no network, no real packages."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from launcher import errors, install, start
from launcher.place import Place

ROOT = Path(__file__).resolve().parent.parent

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="uses a shell script as interpreter")

PYTHON_STUB = """\
#!{python}
# Stands in for an interpreter: `-m venv` and `-m pip` are recorded and follow the script in FAKE_PIP, `-m sfumato` prints.
import os, sys, pathlib
words = [word for word in sys.argv[1:] if word != "-P"]
log = pathlib.Path(os.environ["FAKE_LOG"])
with log.open("a") as file:
    file.write(" ".join(words) + "\\n")
if words[0] == "-c":
    sys.exit(int(os.environ.get("FAKE_OLD", "0")))
if words[:2] == ["-m", "venv"]:
    sys.stdout.write(os.environ.get("FAKE_VENV_SAYS", ""))
    if os.environ.get("FAKE_VENV_SAYS"):
        sys.exit(1)
    import shutil
    folder = pathlib.Path(words[-1])
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "lib/python3.11/site-packages/pip").mkdir(parents=True, exist_ok=True)
    (folder / "pyvenv.cfg").write_text("")
    stub = folder / "bin/python"
    stub.write_text(pathlib.Path(__file__).read_text())
    stub.chmod(0o755)
elif words[:2] == ["-m", "pip"]:
    exec(os.environ.get("FAKE_PIP", ""))
else:
    print("started", *words, flush=True)
    if "FAKE_WAIT" in os.environ:
        import time
        time.sleep(60)
    sys.exit(int(os.environ.get("FAKE_EXIT", "0")))
"""


class Sandbox:
    """A copy of the launcher, with fake interpreters that record what they are asked to do."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "Sfumato è bello 絵"
        shutil.copytree(ROOT / "launcher", self.root / "launcher", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "requirements", self.root / "requirements", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("launch.py", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root / name)
        (self.root / "src").mkdir()
        self.python = folder / "fake-python"
        self.python.write_text(PYTHON_STUB.format(python=sys.executable))
        self.python.chmod(0o755)
        self.log = folder / "log.txt"
        self.environment = {"PATH": os.environ["PATH"], "PYTHON": str(self.python), "FAKE_LOG": str(self.log)}

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def site(self) -> Path:
        return self.venv / "lib/python3.11/site-packages"

    def command(self, *words: str) -> list[str]:
        return [sys.executable, str(self.root / "launch.py"), *words]

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Start once, from another folder."""
        return subprocess.run(
            self.command(*words), env=self.environment | environment, cwd="/", capture_output=True, text=True, timeout=60
        )

    def calls(self) -> list[str]:
        """What the fake interpreters were asked since the last look."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    return Sandbox(tmp_path)


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of a refusal: one sentence, no traceback."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("sfumato: ")
    assert last.endswith(".")
    return last


@POSIX
class TestStart:
    def test_first_start_installs_and_starts(self, sandbox: Sandbox) -> None:
        done = sandbox.run("txt2img", "a cat", FAKE_EXIT="7")
        assert done.stdout == "started -m sfumato txt2img a cat\n"
        assert done.returncode == 7
        calls = sandbox.calls()
        assert calls[1].startswith("-m venv")
        assert calls[2].startswith("-m pip install -r")
        assert (sandbox.venv / "sfumato-base.stamp").exists()

    def test_source_is_linked_so_that_a_moved_folder_still_works(self, sandbox: Sandbox) -> None:
        sandbox.run("x")
        line = (sandbox.site / "sfumato.pth").read_text().strip()
        assert not os.path.isabs(line)
        assert (sandbox.site / line).resolve() == sandbox.root / "src"

    def test_environment_elsewhere_links_absolutely(self, sandbox: Sandbox, tmp_path: Path) -> None:
        sandbox.run("x", VENV_DIR=str(tmp_path / "else where"))
        link = tmp_path / "else where/lib/python3.11/site-packages/sfumato.pth"
        assert link.read_text().strip() == str(sandbox.root / "src")

    def test_second_start_does_no_package_work(self, sandbox: Sandbox) -> None:
        sandbox.run("x")
        sandbox.calls()
        before = {path: path.stat().st_mtime_ns for path in sandbox.venv.rglob("*")}
        done = sandbox.run("x", PATH="")
        assert done.stdout == "started -m sfumato x\n"
        assert done.stderr == ""
        assert sandbox.calls() == ["-m sfumato x"]
        assert {path: path.stat().st_mtime_ns for path in sandbox.venv.rglob("*")} == before

    def test_second_start_loads_no_installer(self, sandbox: Sandbox) -> None:
        sandbox.run("x")
        code = (
            "import sys, launcher.start as s; s.hand_over = lambda *a: 0; s.main(['x']); print('launcher.install' in sys.modules)"
        )
        environment = sandbox.environment | {"PYTHONPATH": str(sandbox.root)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=sandbox.root, capture_output=True, text=True, check=True
        )
        assert done.stdout == "False\n"

    def test_changed_lock_installs_again(self, sandbox: Sandbox) -> None:
        sandbox.run("x")
        sandbox.calls()
        with (sandbox.root / "requirements/base.txt").open("a") as file:
            file.write("another==1\n")
        sandbox.run("x")
        assert [call[:18] for call in sandbox.calls()] == ["-m pip install -r ", "-m sfumato x"]

    def test_test_verb_uses_the_dev_lock_and_the_checks(self, sandbox: Sandbox) -> None:
        done = sandbox.run("test", "-k", "x", COMMANDLINE_ARGS="--listen")
        assert done.stdout == f"started {sandbox.root}/tests/check.py -k x\n"
        assert "pytest" in (sandbox.venv / "sfumato-requirements.txt").read_text()

    def test_nothing_is_imported_from_the_current_folder(self, sandbox: Sandbox, tmp_path: Path) -> None:
        (tmp_path / "launcher.py").write_text("raise SystemExit('imported')")
        done = sandbox.run("x", PYTHONSAFEPATH="1", PYTHONPATH=str(tmp_path))
        assert done.stdout == "started -m sfumato x\n"
        (tmp_path / "argparse.py").write_text("raise SystemExit('imported')")
        command = [sys.executable, str(ROOT / "launch.py"), "txt2img", "--help"]
        environment = sandbox.environment | {"VENV_DIR": "-"}
        done = subprocess.run([*command, "--skip-install"], env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert "usage: sfumato txt2img" in done.stdout

    def test_dev_packages_include_the_base(self, sandbox: Sandbox) -> None:
        sandbox.run("test")
        sandbox.calls()
        sandbox.run("x")
        assert sandbox.calls() == ["-m sfumato x"]

    def test_base_packages_do_not_include_dev(self, sandbox: Sandbox) -> None:
        sandbox.run("x")
        assert not (sandbox.venv / "sfumato-dev.stamp").exists()

    @pytest.mark.parametrize("words", [["--help"], ["help"], ["--version"]])
    def test_help_needs_no_installation(self, sandbox: Sandbox, words: list[str]) -> None:
        (sandbox.root / "src").rmdir()
        (sandbox.root / "src").symlink_to(ROOT / "src")
        done = sandbox.run(*words)
        assert done.returncode == 0
        assert done.stdout
        assert sandbox.calls() == []

    def test_temporary_files_of_pip_are_on_the_same_disk_and_removed(self, sandbox: Sandbox) -> None:
        sandbox.run("x", FAKE_PIP="import tempfile; pathlib.Path(os.environ['FAKE_LOG']).write_text(tempfile.mkdtemp())")
        (folder,) = [line for line in sandbox.calls() if line.startswith(str(sandbox.venv))]
        assert not Path(folder.removesuffix("-m sfumato x")).exists()

    def test_signals_reach_the_program(self, sandbox: Sandbox) -> None:
        sandbox.run("x")
        environment = sandbox.environment | {"FAKE_WAIT": "1"}
        with subprocess.Popen(sandbox.command("x"), env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"started -m sfumato x\n"
            process.terminate()
        assert process.returncode == -signal.SIGTERM


@POSIX
class TestEnvironmentVariables:
    def test_commandline_args_are_appended(self, sandbox: Sandbox) -> None:
        done = sandbox.run("txt2img", "cat", COMMANDLINE_ARGS="--steps 5 --style 'two words'")
        assert done.stdout == "started -m sfumato txt2img cat --steps 5 --style two words\n"

    def test_commandline_args_come_before_a_double_dash(self, sandbox: Sandbox) -> None:
        done = sandbox.run("txt2img", "--", "-cat", COMMANDLINE_ARGS="--steps 5")
        assert done.stdout == "started -m sfumato txt2img --steps 5 -- -cat\n"

    def test_commandline_args_without_the_second_quote(self, sandbox: Sandbox) -> None:
        assert "quotation mark" in one_sentence(sandbox.run("x", COMMANDLINE_ARGS="--style 'two"))

    def test_launcher_flags_stay_here(self, sandbox: Sandbox) -> None:
        done = sandbox.run("x", "--skip-python-version-check", "--", "--skip-install")
        assert done.stdout == "started -m sfumato x -- --skip-install\n"

    def test_torch_command_comes_first_and_the_lock_leaves_torch_alone(self, sandbox: Sandbox) -> None:
        sandbox.run("x", TORCH_COMMAND="pip install torch==2.11.0")
        assert "-m pip install torch==2.11.0" in sandbox.calls()
        rest = (sandbox.venv / "sfumato-requirements.txt").read_text()
        assert "pydantic==" in rest
        assert not any(install.is_torch(line) for line in rest.splitlines())

    def test_changed_torch_command_installs_again(self, sandbox: Sandbox) -> None:
        sandbox.run("x")
        sandbox.calls()
        sandbox.run("x", TORCH_COMMAND="pip install torch==2.11.0")
        assert "-m pip install torch==2.11.0" in sandbox.calls()

    def test_torch_index(self, sandbox: Sandbox) -> None:
        sandbox.run("x", TORCH_INDEX_URL="file:///wheels", INDEX_URL="file:///mirror")
        calls = sandbox.calls()
        assert any(call.startswith("-m pip install --index-url file:///wheels torch==") for call in calls)
        assert any(call.startswith("-m pip install --index-url file:///mirror -r") for call in calls)

    def test_reqs_file(self, sandbox: Sandbox) -> None:
        (sandbox.root / "mine.txt").write_text("only==1\n")
        sandbox.run("x", REQS_FILE="mine.txt")
        assert (sandbox.venv / "sfumato-requirements.txt").read_text() == "only==1\n"

    def test_missing_reqs_file(self, sandbox: Sandbox) -> None:
        assert "REQS_FILE" in one_sentence(sandbox.run("x", REQS_FILE="none.txt"))

    @pytest.mark.parametrize("name", ["-", ""])
    def test_running_python(self, sandbox: Sandbox, name: str) -> None:
        code = f"import sys; sys.executable = {str(sandbox.python)!r}; from launcher.start import main; sys.exit(main(['x']))"
        environment = sandbox.environment | {"PYTHONPATH": str(sandbox.root), "VENV_DIR": name}
        for expected in (1, 0):
            subprocess.run([sys.executable, "-c", code], env=environment, cwd=sandbox.root, check=True, capture_output=True)
            calls = sandbox.calls()
            assert len([call for call in calls if call.startswith("-m pip")]) == expected
            assert calls[-1] == "-m sfumato x"
        assert not sandbox.venv.exists()

    def test_python_that_does_not_exist(self, sandbox: Sandbox) -> None:
        assert "PYTHON names 'pythonx'" in one_sentence(sandbox.run("x", PYTHON="pythonx"))

    def test_python_that_is_too_old(self, sandbox: Sandbox) -> None:
        assert "3.11 or newer" in one_sentence(sandbox.run("x", FAKE_OLD="1"))

    def test_reinstall_torch(self, sandbox: Sandbox) -> None:
        sandbox.run("x")
        sandbox.calls()
        sandbox.run("x", "--reinstall-torch")
        assert sandbox.calls()[0] == "-m pip uninstall --yes torch torchvision"

    def test_skip_install(self, sandbox: Sandbox) -> None:
        assert "start once without" in one_sentence(sandbox.run("x", "--skip-install"))
        sandbox.run("x")
        (sandbox.venv / "sfumato-base.stamp").unlink()
        sandbox.calls()
        sandbox.run("x", "--skip-install")
        assert sandbox.calls() == ["-m sfumato x"]

    def test_windows_paths_keep_their_backslashes(self) -> None:
        words = start.split_arguments(r'--ckpt "C:\my models\a.safetensors" --port 1', windows=True)
        assert words == ["--ckpt", r"C:\my models\a.safetensors", "--port", "1"]


def pip_fails(text: str) -> str:
    return f"sys.stderr.write({text!r}); sys.exit(1)"


@POSIX
class TestUnhappy:
    @pytest.mark.parametrize(
        ("says", "expected", "code"),
        [
            ("OSError: [Errno 28] No space left on device", "disk ran full", 6),
            (
                "WARNING: Retrying: NewConnectionError('Failed to establish a new connection: [Errno -3] Temporary failure')\n"
                "ERROR: No matching distribution found for torch==2.15.0",
                "index cannot be reached",
                1,
            ),
            (
                "WARNING: Retrying (Retry(total=0)) after connection broken by 'ProxyError('Cannot connect to proxy.')'",
                "HTTPS_PROXY",
                1,
            ),
            ("ssl.SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED; Max retries exceeded", "certificate", 1),
            ("ERROR: No matching distribution found for torch==2.15.0", "no torch==2.15.0 for this Python", 1),
            ("error: externally-managed-environment", "operating system", 1),
            ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "damaged", 1),
            ("PermissionError: [Errno 13] Permission denied: '/x'", "cannot be written to", 1),
        ],
    )
    def test_pip_failures(self, sandbox: Sandbox, says: str, expected: str, code: int) -> None:
        done = sandbox.run("x", FAKE_PIP=pip_fails(says))
        assert expected in one_sentence(done)
        assert done.returncode == code
        assert not (sandbox.venv / "sfumato-base.stamp").exists()

    def test_unknown_pip_failure_is_quoted(self, sandbox: Sandbox) -> None:
        done = sandbox.run("x", FAKE_PIP=pip_fails("something strange"))
        assert done.returncode == 1
        assert done.stderr.strip().endswith("Installing the packages failed: something strange")

    def test_failure_is_repaired_by_the_next_start(self, sandbox: Sandbox) -> None:
        sandbox.run("x", FAKE_PIP=pip_fails("Network is unreachable"))
        sandbox.calls()
        done = sandbox.run("x")
        assert done.stdout == "started -m sfumato x\n"
        assert not any(call.startswith("-m venv") for call in sandbox.calls())

    def test_venv_module_missing(self, sandbox: Sandbox) -> None:
        says = "The virtual environment was not created successfully because ensurepip is not available.  On Debian ..."
        assert "apt install python3-venv" in one_sentence(sandbox.run("x", FAKE_VENV_SAYS=says))
        assert one_sentence(sandbox.run("x", FAKE_VENV_SAYS="/usr/bin/python3: No module named venv"))

    def test_half_made_environment_is_made_again(self, sandbox: Sandbox) -> None:
        sandbox.run("x", FAKE_VENV_SAYS="something broke")
        (sandbox.venv / "bin").mkdir(parents=True)
        (sandbox.venv / "bin/python").write_text("half")
        assert sandbox.run("x").stdout == "started -m sfumato x\n"

    def test_dangling_interpreter_is_made_again(self, sandbox: Sandbox) -> None:
        sandbox.run("x")
        (sandbox.venv / "bin/python").unlink()
        (sandbox.venv / "bin/python").symlink_to("/nowhere/python")
        assert sandbox.run("x").stdout == "started -m sfumato x\n"

    def test_interrupted_installation_is_cleaned_and_resumed(self, sandbox: Sandbox) -> None:
        killed = "import signal; os.kill(os.getppid(), signal.SIGKILL); os.kill(os.getpid(), signal.SIGKILL)"
        assert sandbox.run("x", FAKE_PIP=killed).returncode == -9
        half = sandbox.site / "torch-2.15.0.dist-info"
        half.mkdir()
        (half / "METADATA").write_text("Name: torch")
        (sandbox.site / "~orch").mkdir()
        whole = sandbox.site / "numpy-2.dist-info"
        whole.mkdir()
        (whole / "RECORD").write_text("")
        done = sandbox.run("x")
        assert done.stdout == "started -m sfumato x\n"
        assert not half.exists()
        assert not (sandbox.site / "~orch").exists()
        assert whole.exists()

    def test_a_folder_with_other_files_is_never_cleared(self, sandbox: Sandbox, tmp_path: Path) -> None:
        precious = tmp_path / "home/thesis.txt"
        precious.parent.mkdir()
        precious.write_text("words")
        assert "holds other files" in one_sentence(sandbox.run("x", VENV_DIR=str(precious.parent)))
        assert precious.read_text() == "words"

    def test_unwritable_folder(self, sandbox: Sandbox, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "cannot be written to" in one_sentence(sandbox.run("x", VENV_DIR=str(tmp_path / "file/venv")))

    def test_two_starts_at_once_install_once(self, sandbox: Sandbox) -> None:
        pipe = subprocess.PIPE
        environment = sandbox.environment | {"FAKE_PIP": "import time; time.sleep(1)"}
        both = [subprocess.Popen(sandbox.command("x"), env=environment, stdout=pipe, stderr=pipe) for _ in range(2)]
        answers = [process.communicate(timeout=60) for process in both]
        assert [out for out, _ in answers] == [b"started -m sfumato x\n"] * 2
        assert sum(b"waiting" in err for _, err in answers) == 1
        assert sum(call.startswith("-m pip") for call in sandbox.calls()) == 1

    def test_a_pip_that_outlives_its_launcher_keeps_the_lock(self, sandbox: Sandbox) -> None:
        orphan = "import signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(1.5); sys.stderr.close()"
        began = time.monotonic()
        sandbox.run("x", FAKE_PIP=orphan)
        done = sandbox.run("x")
        assert done.stdout == "started -m sfumato x\n"
        assert time.monotonic() - began > 1.5


class TestSmallParts:
    def test_too_little_room(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(install, "free_bytes", lambda folder: 10**9)
        with pytest.raises(errors.LaunchError, match=r"needs about .* GB of free disk space .* only 1\.0 GB are free") as caught:
            install.require_space(Place(tmp_path / "venv"))
        assert caught.value.exit_code == 6

    def test_room_of_a_folder_that_is_not_there_yet(self, tmp_path: Path) -> None:
        assert install.free_bytes(tmp_path / "a/b") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)

    def test_full_disk_while_writing(self, tmp_path: Path) -> None:
        error = OSError(errno.ENOSPC, "No space left on device")
        assert errors.unwritable(tmp_path, error).exit_code == 6

    def test_long_complaints_are_explained_at_once(self) -> None:
        began = time.perf_counter()
        errors.explain("x", "No matching " * 100_000)
        assert time.perf_counter() - began < 1

    def test_old_python_gets_one_sentence(self, tmp_path: Path) -> None:
        script = tmp_path / "old.py"
        script.write_text(
            textwrap.dedent(f"""
            import runpy, sys
            sys.version_info = (3, 8, 18, "final", 0)
            sys.argv = ["launch.py"]
            runpy.run_path({str(ROOT / "launch.py")!r}, run_name="__main__")
            """)
        )
        environment = {"PATH": "", "SYSTEMROOT": os.environ.get("SYSTEMROOT", "")}
        done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
        assert one_sentence(done) == (
            "sfumato: Sfumato needs Python 3.11 or newer, but this is Python 3.8; install a newer one, or name one in PYTHON."
        )

    def test_any_python_3_can_read_the_launcher(self) -> None:
        import ast

        ast.parse((ROOT / "launch.py").read_text(encoding="utf-8"), feature_version=(3, 6))
