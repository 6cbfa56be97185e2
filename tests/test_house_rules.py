"""The rules of the house, read off the source with `ast`: layers, state, errors, documentation, sizes, addresses, links."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

from sfumato.cli.main import VERBS

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"

# Each layer may import itself and those before it. What is not named here is vocabulary.
LAYERS = ("vocabulary", "engine", "train", "service", "api", "cli")
# The front door: offers the engine's few names lazily, and starts the command line.
DOORS = {"sfumato", "sfumato.__main__"}
# Where any error of somebody else's code is turned into the end of a job.
BOUNDARIES = ("sfumato.service.worker", "sfumato.service.plugins")

MUTABLE_CALLS = {"dict", "list", "set", "defaultdict", "OrderedDict", "Counter", "deque", "bytearray", "WeakValueDictionary"}
MUTABLE_NODES = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)
MUTATORS = {"append", "add", "update", "extend", "insert", "pop", "popitem", "remove", "discard", "clear"}
MUTATORS |= {"setdefault", "sort", "reverse", "appendleft"}


@dataclass(frozen=True)
class Module:
    """One source file."""

    path: Path

    @cached_property
    def name(self) -> str:
        parts = self.path.relative_to(SOURCE).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    @property
    def part(self) -> str:
        """The second word of the name, where it is a layer of its own."""
        word = [*self.name.split("."), ""][1]
        return word if word in (*LAYERS, "extensions") else "vocabulary"

    def where(self, node: ast.stmt | ast.expr | ast.excepthandler) -> str:
        return f"{self.path.relative_to(ROOT)}:{node.lineno}"


@cache
def modules() -> tuple[Module, ...]:
    return tuple(Module(path) for path in sorted(SOURCE.rglob("*.py")) if "static" not in path.parts)


@cache
def names() -> frozenset[str]:
    return frozenset(module.name for module in modules())


def runs_when_imported(tree: ast.AST) -> Iterator[ast.stmt]:
    """Every statement that runs on import: no function bodies, no `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (statement for branch in child.orelse for statement in (branch, *runs_when_imported(branch)))
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from runs_when_imported(child)


def imported(module: Module, node: ast.stmt) -> Iterator[str]:
    """Full names of the modules that an import statement loads."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = module.package.split(".")
            base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in names())


def imports(module: Module, *, when_imported: bool) -> Iterator[tuple[ast.stmt, str]]:
    nodes = runs_when_imported(module.tree) if when_imported else ast.walk(module.tree)
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((node, name) for name in imported(module, node))


def layer_of(name: str) -> str:
    word = [*name.split("."), ""][1]
    return word if word in LAYERS else "vocabulary"


# --- layers -----------------------------------------------------------------------------------------------------------


def test_imports_point_down() -> None:
    wrong = []
    for module in modules():
        if module.name in DOORS or module.part == "extensions":
            continue
        for node, name in imports(module, when_imported=False):
            if name.partition(".")[0] != "sfumato" or name == "sfumato":
                continue
            target = layer_of(name)
            too_high = LAYERS.index(target) > LAYERS.index(module.part)
            past_the_service = module.part in ("api", "cli") and target in ("engine", "train")
            if too_high or past_the_service:
                wrong.append(f"{module.where(node)}: {module.part} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_extensions_use_public_hooks_only() -> None:
    allowed = {"sfumato.service.hooks", "sfumato.extensions"}
    wrong = [
        f"{module.where(node)}: {name}"
        for module in modules()
        if module.part == "extensions"
        for node, name in imports(module, when_imported=False)
        if name.startswith("sfumato.") and layer_of(name) != "vocabulary" and not name.startswith(tuple(allowed))
    ]
    assert not wrong, "\n".join(wrong)


def test_vocabulary_needs_no_heavy_library() -> None:
    wrong = []
    for module in modules():
        if module.part != "vocabulary" or module.name in DOORS:
            continue
        for node, name in imports(module, when_imported=False):
            if name.partition(".")[0] in ("torch", "torchvision", "numpy"):
                wrong.append(f"{module.where(node)}: {name}")
        for node, name in imports(module, when_imported=True):
            if name.partition(".")[0] == "PIL":
                wrong.append(f"{module.where(node)}: {name} (import Pillow inside the function)")
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for module in modules():
        edges = graph.setdefault(module.name, set())
        for _, name in imports(module, when_imported=True):
            parts = name.split(".")
            loaded = {".".join(parts[: i + 1]) for i in range(len(parts))} & names()
            # Whoever imports a module has its packages loaded already.
            edges |= {other for other in loaded if not f"{module.name}.".startswith(f"{other}.")}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_launcher_needs_the_standard_library_only() -> None:
    wrong = []
    for path in [ROOT / "launch.py", *(ROOT / "launcher").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            known = {*sys.stdlib_module_names, "launcher"}
            wrong += [f"{path.name}: {name}" for name in found if name.partition(".")[0] not in known]
    assert not wrong, "\n".join(wrong)


# --- state ------------------------------------------------------------------------------------------------------------


def test_no_global_statement() -> None:
    wrong = [m.where(node) for m in modules() for node in ast.walk(m.tree) if isinstance(node, ast.Global)]
    assert not wrong, "\n".join(wrong)


def is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        callee = value.func
        return (callee.attr if isinstance(callee, ast.Attribute) else getattr(callee, "id", "")) in MUTABLE_CALLS
    return isinstance(value, MUTABLE_NODES)


def constants(module: Module) -> Iterator[tuple[str, ast.stmt]]:
    """Names bound at module level to something that could be changed in place."""
    for node in module.tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if isinstance(node, ast.Assign | ast.AnnAssign) and is_mutable(node.value):
            yield from ((target.id, node) for target in targets if isinstance(target, ast.Name) and target.id != "__all__")


def test_no_mutable_state_at_module_level() -> None:
    """A table is a constant: its name is in capitals and nobody changes it (see the next test). Registries are the exception."""
    wrong = [f"{m.where(node)}: {name}" for m in modules() for name, node in constants(m) if not name.lstrip("_").isupper()]
    assert not wrong, "\n".join(wrong)


def root_name(node: ast.expr) -> str:
    """`a` of `a.b[c].d`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def changed_places(tree: ast.AST) -> Iterator[tuple[ast.stmt | ast.expr, ast.expr]]:
    """Every expression that is assigned to, deleted or changed by a method, with the node that does it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.Delete):
            yield from ((node, target) for target in node.targets)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            yield node, node.target
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            yield node, ast.Subscript(node.func.value, ast.Constant("…"), ast.Store())


def test_tables_are_never_changed() -> None:
    tables = {name for module in modules() for name, _ in constants(module)}
    wrong = []
    for module in modules():
        for node, target in changed_places(module.tree):
            if not isinstance(target, ast.Subscript):
                continue
            held = target.value
            name = held.attr if isinstance(held, ast.Attribute) else getattr(held, "id", "")
            if name in tables and name.lstrip("_").isupper():
                wrong.append(f"{module.where(node)}: {name}")
    assert not wrong, "\n".join(wrong)


def test_no_assignment_to_attributes_of_imported_names() -> None:
    wrong = []
    for module in modules():
        known = {
            alias.asname or alias.name.partition(".")[0]
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        for node, target in changed_places(module.tree):
            if isinstance(target, ast.Attribute) and root_name(target) in known:
                wrong.append(f"{module.where(node)}: {ast.unparse(target)}")
        for call in ast.walk(module.tree):
            if (
                isinstance(call, ast.Call)
                and getattr(call.func, "id", "") in ("setattr", "delattr")
                and root_name(call.args[0]) in known
            ):
                wrong.append(f"{module.where(call)}: {ast.unparse(call)}")
    assert not wrong, "\n".join(wrong)


# --- errors and output ------------------------------------------------------------------------------------------------


def test_no_print_outside_the_command_line() -> None:
    wrong = [
        m.where(node)
        for m in modules()
        if m.part != "cli"
        for node in ast.walk(m.tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert not wrong, "\n".join(wrong)


def test_no_blanket_except() -> None:
    """Only a boundary may catch everything; elsewhere a handler that cleans up and passes the error on is fine."""
    wrong = []
    for module in modules():
        if module.name.startswith(BOUNDARIES):
            continue
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else "everything"
            last = ast.unparse(node.body[-1])
            passes_on = last == "raise" or last.endswith(f".set_exception({node.name})")
            if re.search(r"\b(everything|Exception|BaseException)\b", caught) and not passes_on:
                wrong.append(f"{module.where(node)}: except {caught}")
    assert not wrong, "\n".join(wrong)


# --- documentation and sizes ------------------------------------------------------------------------------------------

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(tree: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    """Public functions and classes of a module, with their public methods."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node)


def is_repetition(node: Definition) -> bool:
    """An overload, a property's setter, or an override: documented where it is first declared."""
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    return any(mark.endswith(("overload", ".setter", "override")) for mark in marks)


def test_every_public_name_is_documented() -> None:
    wrong = []
    for module in modules():
        text = ast.get_docstring(module.tree) or ""
        if len(text) < 10 or text.startswith("TODO"):
            wrong.append(f"{module.path.relative_to(ROOT)}: module")
        wrong += [
            f"{module.where(node)}: {node.name}"
            for node in definitions(module.tree)
            if not ast.get_docstring(node) and not is_repetition(node)
        ]
    assert not wrong, "\n".join(wrong)


def test_every_public_function_is_typed() -> None:
    wrong = []
    for module in modules():
        for node in definitions(module.tree):
            if isinstance(node, ast.ClassDef):
                continue
            every = node.args
            given = [*every.posonlyargs, *every.args, *every.kwonlyargs, *filter(None, [every.vararg, every.kwarg])]
            untyped = [a.arg for a in given if a.annotation is None and a.arg not in ("self", "cls")]
            if untyped or node.returns is None:
                wrong.append(f"{module.where(node)}: {node.name} {untyped}")
    assert not wrong, "\n".join(wrong)


def test_sizes() -> None:
    """Files of at most 500 lines, functions of at most 100: beyond that there are usually two ideas in one place."""
    wrong = []
    for path in [ROOT / "launch.py", *(ROOT / "launcher").glob("*.py"), *(m.path for m in modules())]:
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        wrong += [f"{path.relative_to(ROOT)}: {lines} lines"] if lines > 500 else []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 100:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} is too long")
    assert not wrong, "\n".join(wrong)


# --- start-up ---------------------------------------------------------------------------------------------------------


def seconds_without_torch(code: str) -> float:
    """Run `code` in a fresh interpreter that refuses torch; the processor time it took, the best of three.

    Processor time, because other tests run at the same time and waiting for them says nothing about the code.
    """
    guard = "import sys; sys.modules['torch'] = None\n"
    best = float("inf")
    for _ in range(3):
        before = os.times()
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        done = subprocess.run([sys.executable, "-c", guard + code], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        after = os.times()
        best = min(best, sum(after[2:4]) - sum(before[2:4]))
    return best


def test_import_is_quick_and_without_torch() -> None:
    assert seconds_without_torch("import sfumato") < 0.5  # 0.25 s is promised for a quiet machine


@pytest.mark.parametrize("words", [[], *([verb.name] for verb in VERBS)])
def test_help_is_quick_and_without_torch(words: list[str]) -> None:
    code = f"import runpy; sys.argv = ['sfumato', *{words!r}, '--help']; runpy.run_module('sfumato', run_name='__main__')"
    assert seconds_without_torch(code) < 1.0  # 0.5 s is promised for a quiet machine


# --- what is in the repository ----------------------------------------------------------------------------------------


@cache
def tracked() -> tuple[Path, ...]:
    """Files under version control; in a copy without git, all of them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        return tuple(path for path in ROOT.rglob("*") if path.is_file() and not any(p.startswith(".") for p in path.parts))
    return tuple(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())


def test_no_package_server_and_no_machine_path() -> None:
    """An address in a tracked file would tie every installation to it; a path would be right on one machine only."""
    server = r"py" r"pi\.org|python" r"hosted\.org|download\.py" r"torch\.org|/simple/\w"
    place = r"(?<![\w.])/(work|ro" r"ot|opt/py" r"pi|home/\w+|Users/\w+)/"
    wrong = []
    for path in tracked():
        if path.suffix not in {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".sh", ".ts", ".tsx", ".cfg", ".ini", ""}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if re.search(server, line) or re.search(place, line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


def pins(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines():
        match = re.match(r"([\w.-]+)==([\w.]+)( ;.*)?$", line)
        assert match, f"{name}: {line!r} is not a plain pin"
        found.setdefault(match[1], []).append(match[2])
    return found


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


@pytest.mark.parametrize(("name", "extra"), [("base.txt", None), ("dev.txt", "dev")])
def test_locks_satisfy_the_declared_ranges(name: str, extra: str | None) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = pins(name)
    for requirement in project["dependencies"] + (project["optional-dependencies"][extra] if extra else []):
        match = re.match(r"([\w.-]+)(?:\[.*\])?(?:>=([\d.]+))?(?:;.*)?$", requirement)
        assert match, requirement
        for pin in locked[match[1].lower()]:
            assert version(pin) >= version(match[2] or "0"), requirement


def test_security_floors() -> None:
    """Versions below these have known holes; see SECURITY.md."""
    locked = pins("dev.txt")
    for name, floor in {"torch": "2.10", "pillow": "12.3", "diffusers": "0.38", "transformers": "5.3"}.items():
        assert all(version(pin) >= version(floor) for pin in locked[name])


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ +(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_links_in_the_documentation_resolve() -> None:
    wrong = []
    for page in tracked():
        if page.suffix != ".md" or page.is_relative_to(ROOT / "tests"):
            continue
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert not wrong, "\n".join(wrong)
