"""The layout: no circle of imports wherever an import stands, few layers, small files, and names that lead to what they name."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vbayes"
SOURCES = sorted(PACKAGE.rglob("*.py"))
STUB = PACKAGE / "__init__.pyi"

LAYERS = 12
AT_THE_TOP = 9  # files
LINES = 300

EXCEPTION = ("vbayes.training.fit", "vbayes.laboratory.auto")
"""`fit(estimator="auto")` asks the laboratory, which trains to find out: the one circle that is meant."""
TYPED = {
    ("vbayes.training.result", "vbayes.diagnostics.diagnosis"),
    ("vbayes.training.result", "vbayes.inference.linear_response"),
    ("vbayes.training.result", "vbayes.inference.posterior"),
    ("vbayes.training.result", "vbayes.inference.prediction"),
    ("vbayes.training.training_state", "vbayes.training.result"),
}
"""What a fit's methods return, and a callback's state holds, for type checkers and editors: the one list of imports for types alone that go up."""

Graph = dict[str, set[str]]


def module_of(path: Path, package: Path = PACKAGE) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, modules: Mapping[str, Path], package: Path = PACKAGE) -> Iterator[str]:
    """The modules of the package that a file imports: at its head, inside functions, and for types alone."""
    own = module_of(path, package)
    parents = (own if path.stem == "__init__" else own.rpartition(".")[0]).split(".")
    for node in ast.walk(ast.parse(path.read_bytes())):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            found = [name if (name := f"{base}.{alias.name}") in modules else base for alias in node.names]
        yield from (name for name in found if name in modules and name != own)


def graph_of(package: Path = PACKAGE) -> Graph:
    modules = {module_of(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: set(imported(path, modules, package)) for name, path in modules.items()}


def rooms(graph: Graph) -> Graph:
    """The same between the top-level folders, and files that stand beside them."""
    found: Graph = {}
    for name, others in graph.items():
        of = room(name)
        found.setdefault(of, set()).update(room(other) for other in others if room(other) != of)
    return found


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def without(graph: Graph, imports: Iterable[tuple[str, str]]) -> Graph:
    left = {name: set(others) for name, others in graph.items()}
    for name, other in imports:
        left[name].discard(other)
    return left


def circle(graph: Graph) -> list[str]:
    """The names along a circle, the first again at the end; empty if there is none."""
    done: set[str] = set()

    def from_(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if found := from_(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := from_(name, []))), [])


def both(graph: Graph) -> list[str]:
    return circle(graph) or circle(rooms(graph))


def test_there_is_no_circle_of_modules_or_of_rooms():
    graph = without(graph_of(), [EXCEPTION, *TYPED])
    for what in (graph, rooms(graph)):
        assert not (found := circle(what)), "imports go round: " + " -> ".join(found)


def test_what_is_let_pass_is_there_and_a_circle():
    graph = graph_of()
    assert all(other in graph[name] for name, other in (EXCEPTION, *TYPED)) and both(without(graph, TYPED))
    for name, other in TYPED:
        path = PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py")
        run = [node for node in ast.parse(path.read_bytes()).body if not isinstance(node, ast.If)]
        found = {str(node.module).rpartition(".")[2] for node in run if isinstance(node, ast.ImportFrom)}
        assert other.rpartition(".")[2] not in found, f"{name} imports {other} when it runs"


@pytest.mark.parametrize(
    "text", ["from ..b import two", "def f():\n    import p.b.two", "if TYPE_CHECKING:\n    from ..b.two import X"]
)
def test_a_circle_is_found_wherever_the_import_stands(tmp_path, text):
    for name, content in {
        "a/one.py": text,
        "b/two.py": "from ..a.other import f",
        "a/other.py": "",
        "p.py": "",
    }.items():
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    graph = graph_of(tmp_path / "p")
    assert not circle(graph) and circle(rooms(graph)) == ["p.a", "p.b", "p.a"]
    (tmp_path / "p/a/other.py").write_text("from .one import g")
    assert circle(graph_of(tmp_path / "p")) == ["p.a.one", "p.b.two", "p.a.other", "p.a.one"]


def test_the_layers_are_few():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (c["layers"] for c in contracts if c["type"] == "layers" and c["containers"] == ["vbayes"])
    assert len(layers) <= LAYERS
    named = {name.strip() for layer in layers for name in re.split("[|:]", layer)}
    beside = {"runs", "__init__", "__main__"}
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert named == there - beside


def test_only_what_everything_stands_on_lies_at_the_top():
    assert len([path for path in PACKAGE.iterdir() if path.is_file()]) <= AT_THE_TOP


def test_no_file_is_long():
    long = [str(path.relative_to(PACKAGE)) for path in SOURCES if len(path.read_text().splitlines()) > LINES]
    assert not long, f"over {LINES} lines: {long}"


# ---- names


def public() -> dict[str, list[str]]:
    """Module → the names that the package offers from it, of those that lie in a room."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and "." in node.module:
            found.setdefault(node.module, []).extend(alias.name for alias in node.names)
    return found


def snake(name: str) -> str:
    """`MonteCarloEM` as a file is called: monte_carlo_em."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


@pytest.mark.parametrize("module", public())
def test_a_file_bears_the_name_of_what_it_offers(module):
    path = PACKAGE.joinpath(*module.split("."))
    if path.is_dir():  # a room within a room: its own files bear the names
        return
    body = ast.parse(path.with_suffix(".py").read_bytes()).body
    here = {node.name for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    names = public()[module]
    assert set(names) <= here, f"{module} offers what is defined elsewhere: {set(names) - here}"
    fitting = {snake(name) for name in names} | {f"{snake(name)}_result" for name in names}
    fitting |= {"result"} if module == "training.result" else set()  # of `fit`, the verb of its room
    fitting |= {"base"} if module == "estimators.base" else set()  # the contract that the files beside it keep
    assert path.name in fitting
