"""The identity of the code that a step runs: what was measured with other code is measured again.

The syntax counts, not the text: comments, docstrings and blank lines change no step.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lra_bench.identity import hash_of

# Of every step, whatever the model.
_ALWAYS = ("lra_bench.heads", "lra_bench.objective", "lra_bench.optim")
_OWN = "lra_bench"


def code_sha256(nodes: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 (hex) of the code of what nodes of a configuration build.

    Their modules and what these import of the same packages. Of the harness only modules that
    import torch count: nothing else computes in a step.

    Args:
        nodes: With a ``_target_``, and further ones inside.
    """
    modules = {target.rpartition(".")[0] for node in nodes for target in _targets(node)}
    waiting = [*modules, *_ALWAYS]
    packages = {_top(name) for name in waiting}
    used: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        path = None if name in used else _file_of(name)
        if path is None:
            continue
        module = _read(name, path, path.stat().st_mtime_ns)
        if _top(name) == _OWN and not module.imports_torch:
            continue
        used[name] = module.syntax
        waiting += [one for one in module.imported if _top(one) in packages]
    return hash_of(used)


@dataclass(frozen=True)
class _Module:
    """What counts of a module: a hash of its syntax, and what it imports."""

    syntax: str
    imports_torch: bool
    imported: tuple[str, ...]


@lru_cache(maxsize=4096)
def _read(name: str, path: Path, stamp: int) -> _Module:
    """Return what counts of a module; models share most of theirs."""
    del stamp
    tree = ast.parse(path.read_bytes())
    imported = tuple(_imports(ast.walk(tree), name))
    imports_torch = "torch" in map(_top, _imports(tree.body, name))
    return _Module(hash_of(ast.dump(_without_docstrings(tree))), imports_torch, imported)


def _targets(node: Any) -> Iterator[str]:
    """Yield every ``_target_`` in nested sections."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from _targets(value)


def _top(module: str) -> str:
    return module.split(".")[0]


def _file_of(module: str) -> Path | None:
    """Return the file of a module, None for what is none or has none."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    origin = None if found is None else found.origin
    return Path(origin) if origin and origin.endswith(".py") else None


def _imports(statements: Iterable[ast.AST], importer: str) -> Iterator[str]:
    """Yield the modules that statements may import; ``from a import b`` may mean ``a.b``."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = importer.split(".")[: -node.level]
                base = ".".join([*above, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree
