"""The house stands: who may import whom, where SQL and the environment live, what never enters the service."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("service", "tunescope", "trainer", "dashboard")
FEATURES = ("tracking", "evaluation", "forgetting", "experiments")
# torch and its kin cost seconds and gigabytes; only the package that needs one may name it.
HEAVY = {
    "torch": {"trainer"},
    "transformers": {"trainer", "tunescope/transformers.py"},
    "peft": {"trainer"},
    "bitsandbytes": {"trainer"},
    "datasets": {"trainer", "service/measure/hugging_face.py"},
    "evaluate": {"trainer", "service/measure/hugging_face.py"},
    "streamlit": {"dashboard"},
    "plotly": {"dashboard"},
    "pandas": {"dashboard", "trainer"},
}


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Every module or name that is imported, in full (`from a.b import c` gives a.b.c)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


ALL = [(path, tree) for package in PACKAGES for path, tree in modules(package)]


def offenders(allowed: dict[str, set[str]]) -> list[str]:
    """Imports of one of our packages by another that is not on its list."""
    return [
        f"{path} imports {name}"
        for path, tree in ALL
        for name, _ in imported(tree)
        if (top := name.split(".")[0]) in PACKAGES
        and top != (own := path.split("/")[0])
        and top not in allowed.get(own, set())
    ]


def test_packages_depend_one_way() -> None:
    assert offenders({"trainer": {"tunescope"}, "dashboard": {"tunescope"}}) == []


def test_features_do_not_import_one_another() -> None:
    found = [
        f"{path} imports {name}"
        for path, tree in modules("service")
        for name, _ in imported(tree)
        for feature in FEATURES
        if path.startswith("service/")
        and name.startswith(f"service.{feature}.")
        and path.split("/")[1] != feature
        and path != "service/app.py"
    ]
    assert found == []


def test_store_and_measure_are_the_ground_floor() -> None:
    """store knows measure's and the rules' names nowhere; measure knows nothing of ours at all."""
    found = [
        f"{path} imports {name}"
        for path, tree in modules("service")
        for name, _ in imported(tree)
        if (path.startswith("service/measure/") and name.startswith("service.") and ".measure" not in name)
        or (
            path.startswith("service/store/")
            and name.startswith("service.")
            and not name.startswith(("service.store", "service.errors"))
        )
    ]
    assert found == []


def test_rules_do_not_import_faces() -> None:
    faces = ("routes", "registry_routes", "gateway", "ofrep", "events_routes")
    found = [
        f"{path} imports {name}"
        for path, tree in modules("service")
        for name, _ in imported(tree)
        if name.startswith("service.")
        and any(f".{face}" in name for face in faces)
        and Path(path).stem not in faces
        and path != "service/app.py"
    ]
    assert found == []


def test_sql_lives_in_the_store() -> None:
    found = []
    for path, tree in modules("service"):
        if path.startswith("service/store/"):
            continue
        for name, _ in imported(tree):
            if name.startswith(("sqlalchemy", "sqlmodel")) and not name.startswith("sqlalchemy.exc"):
                found += [] if name == "sqlmodel.Session" else [f"{path} imports {name}"]
        found += [
            f"{path}:{node.lineno} .{node.func.attr}()"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"exec", "execute", "exec_driver_sql"}
        ]
    assert found == []


def test_the_environment_is_read_in_one_place() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, tree in modules("service")
        if path != "service/settings.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    ]
    assert found == []


def test_own_modules_are_imported_at_the_top() -> None:
    found = [
        f"{path}:{inner.lineno} {name}"
        for path, tree in ALL
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for name, inner in imported(function)
        if name.split(".")[0] in PACKAGES
    ]
    assert found == []


def test_no_import_cycles() -> None:
    names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): tree for path, tree in ALL}
    edges: dict[str, set[str]] = {}
    for name, tree in names.items():
        targets = set()
        for full, _ in imported(tree):
            target = full if full in names else full.rpartition(".")[0]
            if target in names and target != name:
                targets.add(target)
        edges[name] = targets
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, "cycle: " + " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for target in sorted(edges[name]):
                walk(target, (*trail, name))
            done.add(name)

    for name in sorted(edges):
        walk(name, ())


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_stay_where_they_are_needed(package: str) -> None:
    found = [
        f"{path} imports {name}"
        for path, tree in ALL
        for name, _ in imported(tree)
        if name.split(".")[0] == package and not any(path.startswith(place) for place in HEAVY[package])
    ]
    assert found == []


def test_heavy_packages_never_enter_the_service_process() -> None:
    code = (
        "import sys, service.app, service.cli; from service.settings import Settings; "
        "app = service.app.create_app(Settings()); app.openapi(); "
        f"print([m for m in {sorted(HEAVY)!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_imports_the_metrics_for_hugging_face() -> None:
    """They are for user code that has `evaluate`; the service scores without it."""
    found = [
        path for path, tree in ALL for name, _ in imported(tree) if name.startswith("service.measure.hugging_face")
    ]
    assert found == []


def test_the_client_is_light() -> None:
    heavy = sorted({*HEAVY, "numpy", "pyarrow", "fastapi", "sqlalchemy", "scipy"})
    code = f"import sys, tunescope; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
