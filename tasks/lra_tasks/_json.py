"""Reading files of JSON that may hold anything: what is wrong is said with its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError
from lra_bench.files import reason
from lra_tasks._checksums import status_of_file

_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "a bool"}


def load(path: Path, remedy: str) -> Any:
    """Return what a file of JSON holds.

    Raises:
        UserError: It cannot be read, or is no JSON.
    """
    try:
        status_of_file(path)
        return parsed(path.read_bytes(), str(path), remedy)
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}; {remedy}") from error


def parsed(content: bytes, place: str, remedy: str) -> Any:
    """Return what is written as JSON.

    Raises:
        UserError: It is none.
    """
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{place} is no JSON ({why:.200}); {remedy}") from error


class Row:
    """An object of a file, of which fields are asked for.

    Args:
        value: What stands there.
        place: Where, for messages.

    Raises:
        UserError: It is no object.
    """

    def __init__(self, value: Any, place: str) -> None:
        self.place = place
        self.value: Mapping[str, Any] = self._of_kind(value, dict, "")

    def get(self, name: str, kind: type) -> Any:
        """Return a field of a kind; texts can be written down, and are not blank.

        Raises:
            UserError: There is none, or it is of another kind.
        """
        if name not in self.value:
            raise UserError(f"{self.place} has no field {name!r}")
        found = self._of_kind(self.value[name], kind, f"field {name!r} of ")
        return self.checked(found, name) if kind is str else found

    def texts(self, name: str) -> list[str]:
        """Return a field that is a list of texts, without the blank ones.

        Raises:
            UserError: It is none.
        """
        found = [self._of_kind(one, str, f"{name} of ") for one in self.get(name, list)]
        return [self.checked(one, name) for one in found if one.strip()]

    def rows(self, name: str) -> list[Row]:
        """Return a field that is a list of objects.

        Raises:
            UserError: It is none.
        """
        return [
            Row(one, f"{self.place}, {name} {at}") for at, one in enumerate(self.get(name, list))
        ]

    def checked(self, text: str, name: str) -> str:
        """Return a text that can be written down and is not blank.

        Raises:
            UserError: It is none; JSON can hold halves of characters.
        """
        if not text.strip():
            raise UserError(f"{self.place} has an empty {name!r}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{self.place}: {name!r} holds half a character") from error
        return text

    def _of_kind(self, value: Any, kind: type, what: str) -> Any:
        # A bool is an int to Python, and no number.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UserError(f"{what}{self.place} is {value!r:.60}, not {_KINDS[kind]}")
        return value
