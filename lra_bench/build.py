"""From a node of the configuration to an object: the only caller of Hydra's ``instantiate``.

Building looks at the node and changes nothing in it. Options are checked against the type hints
of what is built, so that a wrong one is refused here instead of somewhere inside.
"""

from __future__ import annotations

import inspect
import json
import logging
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from lra_bench import schema
from lra_bench.compose import Request, TaskRequest
from lra_bench.errors import UserError
from lra_bench.paths import default_cache_dir, default_data_dir
from lra_bench.types import Task, TaskSpec
from lra_bench.words import nearest

T = TypeVar("T")

# What it would log about a class that cannot be imported is in the error already.
logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)


def build_task(request: Request | TaskRequest) -> Task:
    """Build the task of a request; it has read nothing yet.

    Raises:
        UserError: An option is wrong.
    """
    if isinstance(request, Request):
        config = request.config
        name, node = request.names["task"], config.task
        data_dir, cache_dir = config.data_dir, config.cache_dir
    else:
        name, node = request.name, request.node
        data_dir, cache_dir = request.data_dir, request.cache_dir
    task = build(
        node,
        "task",
        data_dir=Path(data_dir or default_data_dir()).expanduser(),
        cache_dir=Path(cache_dir or default_cache_dir()).expanduser(),
    )
    if not isinstance(task, Task) or not isinstance(getattr(task, "spec", None), TaskSpec):
        raise UserError(f"task={name} must build an lra_bench.types.Task with a spec")
    return task


def build(node: Mapping[str, Any], name: str, **arguments: Any) -> Any:
    """Build the object that a node of the configuration describes by its ``_target_``.

    Args:
        node: The node.
        name: Its key, for messages.
        arguments: What the harness adds; those that the target does not take are left out.

    Raises:
        UserError: The target cannot be imported, or an option is missing, unknown or wrong.
    """
    check_options(node, name, set(arguments))
    taken = _parameters(node, name)
    given = {key: value for key, value in arguments.items() if key in taken}
    # Hydra would turn what it passes on into containers of its own; so it passes nothing on.
    try:
        make = instantiate({**node, "_partial_": True, "_convert_": "all"})
    except HydraException as error:
        raise UserError(f"{name}: {' '.join(str(error).split())}") from error
    return as_user_error(lambda: make(**given), name)


def as_user_error(make: Callable[[], T], name: str) -> T:
    """Call something that raises ValueError (or TypeError) for what the user wrote.

    Args:
        make: What to call.
        name: The key to blame, for the message.

    Raises:
        UserError: It raised one.
    """
    try:
        return make()
    except UserError:
        raise
    except ValidationError as error:
        raise UserError("; ".join(schema.explain(error, name))) from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{name}: {error}") from error


def _target(node: Mapping[str, Any], name: str) -> Any:
    if "_target_" not in node:
        raise UserError(f"{name} has no _target_: its file must name the class to build")
    try:
        return get_object(node["_target_"])
    except (Exception, SystemExit) as error:
        # Importing a stranger's module can raise anything.
        reason = error.__cause__ or error
        where = ""
        if isinstance(reason, ModuleNotFoundError):
            where = "; modules are looked for here, in --config-dir and among what is installed"
        raise UserError(f"{name}: cannot import {node['_target_']}: {reason}{where}") from error


def _parameters(node: Mapping[str, Any], name: str) -> Mapping[str, inspect.Parameter]:
    target = _target(node, name)
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: {node['_target_']} is nothing that can be built") from error


def check_options(node: Mapping[str, Any], name: str, provided: set[str]) -> None:
    """Check the options of a node, and of nodes inside it, against the type hints.

    Args:
        node: The node.
        name: Its key, for messages.
        provided: Names of what the harness adds.

    Raises:
        UserError: The target cannot be imported, or an option is missing, unknown or wrong.
    """
    target = _target(node, name)
    parameters = _parameters(node, name)
    hints = _hints_of(target)
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for key, value in node.items():
        if key == "_partial_" and not isinstance(value, bool):
            raise UserError(f"{name}._partial_={schema.literal(value)} is not true or false")
        if key in ("_target_", "_partial_"):
            continue
        if key not in parameters and not takes_all:
            known = [option for option in parameters if option not in provided]
            raise UserError(
                f"{name}.{key}: {node['_target_']} takes no such option{nearest(key, known)} "
                f"(it takes {', '.join(known)})"
            )
        if isinstance(value, Mapping) and "_target_" in value:
            # A nested node is called by what holds it, with arguments that only that knows.
            check_options(value, f"{name}.{key}", {"spec"})
            if _needs_spec(value, f"{name}.{key}") and not value.get("_partial_"):
                raise UserError(
                    f"{name}.{key}: {value['_target_']} is made for each layer, with sizes that "
                    "are not known yet; add `_partial_: true` beside its _target_"
                )
        elif key in hints:
            _check_type(value, hints[key], f"{name}.{key}")
    missing = [
        key
        for key, one in parameters.items()
        if one.default is one.empty
        and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        and key not in node
        and key not in provided
    ]
    if missing and not node.get("_partial_"):
        raise UserError(f"{name}: {node['_target_']} also needs {', '.join(missing)}")


def _needs_spec(node: Mapping[str, Any], name: str) -> bool:
    spec = _parameters(node, name).get("spec")
    return spec is not None and spec.default is spec.empty and "spec" not in node


def _hints_of(target: Any) -> dict[str, Any]:
    """Return the type hints of what a target takes; none where they name what is not there."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}


def _check_type(value: Any, hint: Any, key: str) -> None:
    """Refuse a plain value that is not what a type hint says; unknown kinds of hints accept all."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False))
    except (PydanticUserError, TypeError):
        return
    try:
        # As JSON a list may be what a hint calls a tuple; otherwise nothing is converted.
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise UserError("; ".join(schema.explain(error, key))) from error
