"""The layers hold: imports go strictly downward, and each outside dependency has its home."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sae_cli"
LAYERS = {
    "cli": 5,
    "__main__": 5,
    "stages": 4,
    "training": 3,
    "metrics": 3,
    "edits": 3,
    "dashboard": 3,
    "dictionaries": 2,
    "models": 2,
    "data": 2,
    "artifacts": 1,
    "kernels": 1,
    "config": 1,
    "console": 1,
    "interruption": 1,
    "board": 0,
    "errors": 0,
    "escaping": -1,
    "tensor_types": 0,
    "seeds": 0,
    "state": 0,
}
HOMES = {
    "hydra": {"cli", "config"},
    "omegaconf": {"cli", "config"},
    "typer": {"cli"},
    "peft": {"models"},
    "transformers": {"models"},
    "datasets": {"data"},
    "pyarrow": {"data"},
    "safetensors": {"artifacts", "models/load.py", "models/adapters.py"},  # there: the class of its errors
    "rich": {"console.py"},
    "matplotlib": {"dashboard/paper.py"},
    "wandb": {"stages/tracking/weights_and_biases.py"},
    "numba": {"kernels"},
    "scipy": {"metrics"},
    "sklearn": {"training/baselines.py"},
    "yaml": {"config"},
    "jinja2": {"dashboard", "models/chat.py"},
    "markupsafe": {"dashboard"},
}
FILES = sorted(
    path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"
)


def imports_of(path):
    """Modules imported anywhere in the file, late imports included; `from sae_cli import console` too."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ([f"sae_cli.{a.name}" for a in node.names] if node.module == "sae_cli" else [str(node.module)])


def place(path):
    return path.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_strictly_downward(path):
    own = place(path)
    for module in imports_of(path):
        if module.startswith("sae_cli."):
            other = module.split(".")[1]
            # The types that cross the boundary to the command line are written down beside the stages.
            if other != own and (path.as_posix(), other) != ("__main__.py", "cli"):
                assert LAYERS[other] < LAYERS[own], f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_dependencies_stay_at_home(path):
    for module in imports_of(path):
        homes = HOMES.get(module.split(".")[0])
        assert homes is None or place(path) in homes or path.as_posix() in homes, f"{path} imports {module}"
