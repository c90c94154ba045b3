"""The layers hold: imports go strictly downward, and each outside dependency has its home."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sae_cli"
LAYERS = {
    "__main__": 10,
    "cli": 9,
    "commands": 8,
    "reports": 7,
    "evaluation": 6,
    "training": 6,
    "activations": 5,
    "jobs": 4.6,
    "build": 4.5,
    "runs": 4,
    "edits": 4,
    "text": 3,
    "models": 3,
    "metrics": 3,
    "dictionaries": 3,
    "artifacts": 2,
    "config": 2,
    "kernels": 2,
    "terminal": 2,
    "errors": 1,
    "seeds": 1,
    "state": 1,
    "tensor_types": 1,
    "documents": 0,
    "escaping": 0,
}
"""The floors of the house. Packages on one floor do not know each other; `build` and `jobs` are for all above them."""
HOMES = {
    "hydra": {"cli", "config"},
    "omegaconf": {"cli", "config"},
    "typer": {"cli"},
    "peft": {"models"},
    "transformers": {"models"},
    "datasets": {"text"},
    "pyarrow": {"text"},
    "safetensors": {"artifacts", "models/load.py", "models/adapters.py"},  # there: the class of its errors
    "rich": {"terminal"},
    "matplotlib": {"reports/paper.py"},
    "wandb": {"training/trackers/weights_and_biases.py"},
    "numba": {"kernels"},
    "scipy": {"metrics"},
    "sklearn": {"evaluation/baselines.py"},
    "yaml": {"config"},
    "jinja2": {"reports", "models/chat.py"},
    "markupsafe": {"reports"},
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
            if other != own:
                assert LAYERS[other] < LAYERS[own], f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_dependencies_stay_at_home(path):
    for module in imports_of(path):
        homes = HOMES.get(module.split(".")[0])
        assert homes is None or place(path) in homes or path.as_posix() in homes, f"{path} imports {module}"
