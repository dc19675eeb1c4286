"""The rules of the house, read out of the source: who may import whom, and nothing made at import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ANY = frozenset({"*"})
ROOMS: dict[str, frozenset[str]] = {
    room: frozenset(may_import.split())
    for room, may_import in {
        # The words that everybody shares.
        "errors": "",
        "audio": "errors",
        "hookspecs": "audio",
        "settings": "errors",
        # The rooms, each above those that it may import.
        "guard": "errors audio",
        "plugins": "errors audio hookspecs guard",
        "codecs": "errors audio hookimpl",
        "wire": "errors audio",
        "store": "errors",
        "upstream": "errors audio settings",
        "access": "errors settings",
        "telemetry": "errors settings",
        "sessions": "errors audio wire store.base upstream.base",
        "handlers": "errors audio settings plugins wire access sessions",
        # What stands beside the server.
        "emulator": "",
        "web": "",
        "testing": "errors audio",
        "client": "errors audio plugins",
        "convert": "errors audio plugins guard",
        "listening": "errors settings",
    }.items()
}
"""What a room may import of the others; `store.base` is that module alone."""

EXCEPTIONS = {
    "app": ANY,
    "cli": ANY,
    # The list of the parts that app.py puts together for the handlers.
    "handlers.services": ANY,
}

LIBRARIES = {
    "google": ("upstream.gemini",),
    "av": ("codecs",),
    "yaml": ("settings.yamlfile",),
    "tornado": ("handlers", "app", "listening", "client", "cli", "emulator.server"),
    "dotenv": ("settings",),
    "pydantic_settings": ("settings",),
    "aiosqlite": ("store.sqlite",),
    "sqlite3": ("store.sqlite",),
    "pluggy": ("__init__", "hookspecs", "plugins"),
}
"""Libraries that only some places may import."""

ENVIRONMENT = ("settings",)
"""Where the environment may be read."""

STATEFUL = frozenset(
    """
    list dict set bytearray deque defaultdict Counter OrderedDict WeakSet WeakKeyDictionary
    WeakValueDictionary Lock RLock Condition Semaphore BoundedSemaphore Event Queue SimpleQueue PriorityQueue
    LifoQueue Thread Future ThreadPoolExecutor ProcessPoolExecutor PluginManager HTTPServer Application
    Client AsyncClient open connect socket count cycle
    """.split()
)
"""What would be state, or a resource, if a module called it when it is imported."""

MUTATORS = frozenset(
    """
    append extend insert remove pop popitem clear update setdefault add discard sort reverse appendleft
    """.split()
)


def is_in(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


@dataclass
class Module:
    """One file. Its name leaves the package out: `sessions.registry`, `codecs.webm`."""

    name: str
    package: tuple[str, ...]
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    def imports(self) -> Iterator[tuple[int, str]]:
        """Everything that is imported, anywhere in the file, by its absolute name."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self.package[: len(self.package) + 1 - node.level] if node.level else ()
                start = ".".join([*base, *([node.module] if node.module else [])])
                yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)


def modules(root: Path) -> Iterator[Module]:
    for top in ("tornado_live", "codecs"):
        for path in sorted((root / top).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[1:] if top == "tornado_live" else parts)
            package = parts[:-1]
            yield Module(name.removesuffix(".__init__"), package, ast.parse(path.read_text(encoding="utf-8")))


def import_problems(module: Module) -> Iterator[str]:
    allowed = EXCEPTIONS.get(module.name, ROOMS.get(module.room))
    if allowed is None and module.name != "__init__":
        yield f"{module.name}: no rule says what this room may import"
    for line, imported in module.imports():
        at = f"{module.name}:{line}"
        top, _, rest = imported.partition(".")
        if top == "tornado_live" and rest and allowed is not None:
            room = rest.partition(".")[0]
            if room != module.room and allowed != ANY and not is_in(rest, tuple(allowed)) and room[0] != "_":
                yield f"{at}: {module.room} may not import {rest}"
        elif top in {"codecs", "tornado_live_codecs"} and module.room != "codecs":
            yield f"{at}: codecs are found by their entry points, not imported"
        elif top in LIBRARIES and not is_in(module.name, LIBRARIES[top]):
            yield f"{at}: only {', '.join(LIBRARIES[top])} may import {top}"


def state_problems(module: Module) -> Iterator[str]:
    names: set[str] = set()
    for statement in top_level(module.tree.body):
        at = f"{module.name}:{statement.lineno}"
        names.update(assigned(statement))
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            if statement.value is not None and (made := stateful_call(statement.value)):
                yield f"{at}: module-level state: {made}"
        elif does_something(statement):
            yield f"{at}: something is done at import"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Global):
            yield f"{module.name}:{node.lineno}: module-level state: global {', '.join(node.names)}"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for line, name in mutated(node, names):
                yield f"{module.name}:{line}: module-level state: {name} is changed"
        elif isinstance(node, ast.ClassDef):
            for entry in node.body:
                if isinstance(entry, ast.Assign) and (made := stateful_call(entry.value)):
                    yield f"{module.name}:{entry.lineno}: state shared by all of {node.name}: {made}"


def environment_problems(module: Module) -> Iterator[str]:
    if is_in(module.name, ENVIRONMENT):
        return
    for node in ast.walk(module.tree):
        read = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if read in {"environ", "environb", "getenv"}:
            yield f"{module.name}:{node.lineno}: only the settings read the environment"  # type: ignore[attr-defined]


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """What runs at import, also in `if` and `try`; not what only the type checker or `python -m` sees."""
    for node in body:
        if isinstance(node, ast.If):
            if not {"TYPE_CHECKING", "__name__"} & {
                n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)
            }:
                yield from top_level([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            handled = [statement for handler in node.handlers for statement in handler.body]
            yield from top_level([*node.body, *handled, *node.orelse, *node.finalbody])
        else:
            yield node


def does_something(statement: ast.stmt) -> bool:
    """Everything but docstrings, definitions, imports, assertions; a logger may be given its level."""
    if isinstance(statement, ast.Expr):
        called = statement.value.func if isinstance(statement.value, ast.Call) else None
        is_level = isinstance(called, ast.Attribute) and called.attr == "setLevel"
        return not isinstance(statement.value, ast.Constant) and not is_level
    return isinstance(
        statement, ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.AugAssign | ast.Delete
    )


def assigned(statement: ast.stmt) -> Iterator[str]:
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def stateful_call(value: ast.expr) -> str | None:
    if isinstance(value, ast.List | ast.Set) and not value.elts:
        return "an empty container"
    if isinstance(value, ast.Dict) and not value.keys:
        return "an empty container"
    for node in ast.walk(value):
        if isinstance(node, ast.Lambda):
            return None
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            is_copy = called in {"list", "dict", "set"} and node.args
            if called in STATEFUL and not is_copy:
                return f"{called}()"
    return None


def mutated(function: ast.FunctionDef | ast.AsyncFunctionDef, names: set[str]) -> Iterator[tuple[int, str]]:
    """Where a function changes what a module-level name stands for."""
    local = {arg.arg for arg in ast.walk(function) if isinstance(arg, ast.arg)}
    local |= {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for node in ast.walk(function):
        changed: ast.expr | None = None
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            changed = node.value
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS
        ):
            changed = node.func.value
        if isinstance(changed, ast.Name) and changed.id in names - local:
            yield changed.lineno, changed.id


def package_problems(root: Path) -> Iterator[str]:
    """`setup.py` names every folder that holds modules, and no other."""
    call = next(
        node
        for node in ast.walk(ast.parse((root / "setup.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    given = {word.arg: word.value for word in call.keywords if word.arg in {"packages", "package_dir"}}
    packages, mapped = set(ast.literal_eval(given["packages"])), ast.literal_eval(given["package_dir"])
    folders = {path.parent.relative_to(root) for path in (root / "tornado_live").rglob("*.py")}
    present = {".".join(folder.parts) for folder in folders} | {
        name for name, folder in mapped.items() if (root / folder / "__init__.py").is_file()
    }
    yield from (f"setup.py: {name} is missing" for name in sorted(present - packages))
    yield from (f"setup.py: {name} does not exist" for name in sorted(packages - present))
    for folder in folders:
        if not (root / folder / "__init__.py").is_file():
            yield f"{folder}: no __init__.py"


def problems(root: Path) -> list[str]:
    found = [
        problem
        for module in modules(root)
        for rule in (import_problems, state_problems, environment_problems)
        for problem in rule(module)
    ]
    return found + list(package_problems(root))


def test_the_whole_tree_keeps_the_rules() -> None:
    assert problems(ROOT) == []


GOOD = {
    "setup.py": """
from setuptools import setup
setup(packages=["tornado_live", "tornado_live.sessions", "tornado_live.upstream", "tornado_live_codecs"],
      package_dir={"tornado_live_codecs": "codecs"})
""",
    "codecs/__init__.py": "",
    "codecs/_help.py": "import av\n",
    "codecs/webm.py": """
from tornado_live import hookimpl
from tornado_live.audio import X
from . import _help
""",
    "tornado_live/__init__.py": "",
    "tornado_live/sessions/__init__.py": "",
    "tornado_live/sessions/a.py": """
import logging
import re
from typing import TYPE_CHECKING
from tornado_live.errors import LiveError
from tornado_live.store.base import Store
from tornado_live.sessions.b import B
from . import c

log = logging.getLogger(__name__)
WORD = re.compile("x")
TABLE = {"a": 1}
NAMES = frozenset(list("ab"))
try:
    VERSION = "1"
except ImportError:
    VERSION = "0"

def f(TABLE):
    TABLE["a"] = 2
    seen = []
    seen.append(WORD)
""",
    "tornado_live/upstream/__init__.py": "",
    "tornado_live/upstream/gemini.py": "def f():\n    from google import genai\n",
}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_tree_that_keeps_the_rules_has_no_problem(tmp_path: Path) -> None:
    assert problems(write(tmp_path, GOOD)) == []


A = "tornado_live/sessions/a.py"
BROKEN = {
    "up": (
        A,
        "from tornado_live.handlers.base import X",
        "sessions.a:1: sessions may not import handlers.base.X",
    ),
    "up in a function": (
        A,
        "def f():\n    import tornado_live.handlers",
        "sessions.a:2: sessions may not import",
    ),
    "up relatively": (
        A,
        "from ..handlers import base",
        "sessions.a:1: sessions may not import handlers.base",
    ),
    "up from the package": (A, "from tornado_live import app", "sessions.a:1: sessions may not import app"),
    "beside the allowed module": (
        A,
        "from tornado_live.store.sqlite import X",
        "may not import store.sqlite",
    ),
    "a part from below": (
        "codecs/webm.py",
        "from tornado_live.plugins import X",
        "codecs may not import plugins",
    ),
    "a codec by name": (A, "from tornado_live_codecs import webm", "found by their entry points"),
    "the SDK": (A, "from google.genai import types", "only upstream.gemini may import google"),
    "the SDK next door": ("tornado_live/upstream/b.py", "import google.genai", "only upstream.gemini may"),
    "PyAV": (A, "import av", "only codecs may import av"),
    "YAML": (A, "import yaml", "only settings.yamlfile may import yaml"),
    "Tornado": (A, "from tornado.web import RequestHandler", "may import tornado"),
    "the environment": (A, "import os\nX = 1\ndef f(): return os.environ['A']", "only the settings read"),
    "the environment by call": (
        A,
        "from os import getenv\ndef f(): return getenv('A')",
        "only the settings read",
    ),
    "a container": (A, "SEEN = []", "sessions.a:1: module-level state: an empty container"),
    "a made container": (A, "SEEN: dict = dict()", "module-level state: dict()"),
    "a lock": (A, "import asyncio\nLOCK = asyncio.Lock()", "module-level state: Lock()"),
    "a global": (A, "N = 0\ndef f():\n    global N\n    N += 1", "module-level state: global N"),
    "a changed table": (
        A,
        "T = {'a': 1}\ndef f():\n    T['b'] = 2",
        "sessions.a:3: module-level state: T is changed",
    ),
    "a grown table": (A, "T = [1]\ndef f():\n    T.append(2)", "module-level state: T is changed"),
    "a changed attribute": (A, "T = object()\ndef f():\n    T.x = 2", "module-level state: T is changed"),
    "state of a class": (A, "class A:\n    clients = set()", "state shared by all of A: set()"),
    "work at import": (A, "print('hello')", "sessions.a:1: something is done at import"),
    "a loop at import": (A, "if True:\n    for x in ():\n        pass", "something is done at import"),
    "a new room": ("tornado_live/attic/__init__.py", "", "attic: no rule says"),
    "a forgotten package": (
        "tornado_live/sessions/deep/__init__.py",
        "",
        "tornado_live.sessions.deep is missing",
    ),
    "a folder that is no package": ("tornado_live/sessions/deep/x.py", "", "deep: no __init__.py"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_each_rule_finds_what_breaks_it(case: str, tmp_path: Path) -> None:
    name, text, expected = BROKEN[case]
    assert any(expected in problem for problem in problems(write(tmp_path, GOOD | {name: text})))


def test_a_package_that_is_gone_must_leave_setup_py(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    for path in (tmp_path / "tornado_live" / "upstream").iterdir():
        path.unlink()
    assert problems(tmp_path) == ["setup.py: tornado_live.upstream does not exist"]
