"""Imports point one way."""

import ast
from pathlib import Path

import trinas

# A module may import trinas modules only from the lines above its own. app imports trinas; trinas never imports app.
LAYERS = [
    {"errors"},
    {"files", "formats", "jpeg", "exif", "hub"},
    {"space", "sparse", "config", "metadata", "colour", "degrade", "synthetic", "checkpoint", "plot", "muon"},
    {"tiff", "sizes", "datasets"},
    {"images"},
    {"device", "layers", "data", "cost", "events"},
    {"network", "card"},
    {"store", "supernet", "latency"},
    {"upscale", "evaluate", "budgets", "export"},
    {"enlarge", "compare", "train", "learner", "warmstart"},
    {"batch", "report"},
    {"search"},
    {"estimate"},
]

PACKAGE = Path(trinas.__file__).parent


def imported_modules(path: Path) -> set[str]:
    """Names of the trinas modules that a file imports, wherever in it; `__init__` imports lazily and is left out."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports would escape this test"
            if node.module and node.module.split(".")[0].startswith("trinas"):
                names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("trinas")}
    return names


def test_every_module_has_its_layer():
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert modules == set().union(*LAYERS)


def test_imports_point_one_way():
    for level, layer in enumerate(LAYERS):
        allowed = {f"trinas.{name}" for name in set().union(*LAYERS[:level])}
        for name in layer:
            assert imported_modules(PACKAGE / f"{name}.py") <= allowed, f"{name} imports from its own layer or below"


def test_public_names_are_where_the_contents_page_says():
    for name in trinas.__all__:
        assert getattr(trinas, name).__name__ == name
