"""Imports point one way: between packages, and inside them."""

import ast
from pathlib import Path

import pytest

import trinas

# A package may import from those above it. The application imports the library, never the other way round.
ORDER = [
    "errors", "timer", "config", "text", "files", "device",
    "images", "networks", "zoo", "inference", "training", "search", "reports",
]  # fmt: skip

LIBRARY = Path(trinas.__file__).parent
MODULES = [path for path in sorted(LIBRARY.rglob("*.py")) if path != LIBRARY / "__init__.py"]


def imported_modules(path: Path) -> set[str]:
    """Names of the trinas modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports would escape this test"
            names |= {node.module} if (node.module or "").startswith("trinas") else set()
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("trinas")}
    return names


def package_of(module: str) -> str:
    return module.split(".")[1]


def name_of(path: Path) -> str:
    return ".".join(("trinas", *path.relative_to(LIBRARY).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_package_imports_only_from_packages_above_it(path):
    own = package_of(name_of(path))
    allowed = ORDER[: ORDER.index(own) + 1]
    for module in imported_modules(path):
        assert module != "trinas", f"{name_of(path)} imports the whole library"
        assert package_of(module) in allowed, f"{name_of(path)} imports {module}, which is not above {own}"


def test_modules_do_not_import_each_other_in_circles():
    left = {name_of(path): imported_modules(path) for path in MODULES}
    while free := {name for name, wanted in left.items() if not wanted & left.keys()}:
        left = {name: wanted for name, wanted in left.items() if name not in free}
    assert not left, f"these import each other: {sorted(left)}"


@pytest.mark.parametrize("path", sorted(LIBRARY.glob("*/__init__.py")), ids=name_of)
def test_a_package_page_says_what_is_in_it_and_imports_nothing(path):
    (docstring,) = ast.parse(path.read_text(encoding="utf-8")).body
    text = ast.literal_eval(docstring.value)
    for module in path.parent.glob("[!_]*.py"):
        assert f"`{module.stem}`" in text, f"{name_of(path)} does not mention {module.stem}"


def test_public_names_are_where_the_contents_page_says():
    for name in trinas.__all__:
        assert getattr(trinas, name).__name__ == trinas._ALIASES.get(name, name)
