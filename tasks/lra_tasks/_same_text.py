"""Which texts are the same: those with the same letters and digits, in whatever case."""

from __future__ import annotations

import hashlib
import re

_LETTERS_AND_DIGITS = b"0123456789abcdefghijklmnopqrstuvwxyz"
_LOWER = bytes(range(256)).lower()
# Of ASCII, all that is neither; bytes above belong to characters that are looked at one by one.
_LEFT_OUT = bytes(set(range(128)) - set(_LETTERS_AND_DIGITS) - set(_LETTERS_AND_DIGITS.upper()))
_NEITHER = re.compile(r"[\W_]+")


def letters_and_digits(text: bytes) -> bytes:
    """Return the letters and digits of a text in lower case.

    Args:
        text: UTF-8.
    """
    # Quick for what most texts are made of.
    kept = text.translate(_LOWER, _LEFT_OUT)
    if kept.isascii():
        return kept
    return _NEITHER.sub("", kept.decode().lower()).encode()


def key_of(text: bytes) -> bytes:
    """Return 32 bytes that are the same for texts with the same letters and digits.

    A text that has neither is only like itself.

    Args:
        text: UTF-8.
    """
    kept = letters_and_digits(text)
    return hashlib.sha256(b"text " + kept if kept else b"signs " + text).digest()
