"""Completing the command line: verbs, and what Hydra knows of groups, options and keys."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SCRIPTS = {
    "bash": """\
_lra_bench() {
    local IFS=$'\\n'
    # '=' and ':' break words here, so the whole line goes over and whole words come back.
    local line="${COMP_LINE:0:COMP_POINT}" word
    word="${line##* }"
    COMPREPLY=($(lra-bench completion --complete "$line" 2>/dev/null))
    local cut="${word%"${word##*[=:]}"}"
    COMPREPLY=("${COMPREPLY[@]#"$cut"}")
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=.,] ]] && compopt -o nospace
    [[ ${#COMPREPLY[@]} -gt 1 ]] && compopt -o nospace
}
complete -o default -F _lra_bench lra-bench
""",
    "zsh": """\
_lra_bench() {
    local -a found
    found=("${(@f)$(lra-bench completion --complete "${LBUFFER}" 2>/dev/null)}")
    [[ -n "$found" ]] && compadd -S '' -- "${found[@]}"
}
compdef _lra_bench lra-bench
""",
    "fish": """\
complete -c lra-bench -f -a '(lra-bench completion --complete (commandline -cp) 2>/dev/null)'
""",
}
_VERBS = ("run", "data", "ls", "leaderboard", "completion")
_WORDS = {
    "data": ("prepare", "verify", "show"),
    "ls": ("tasks", "models", "settings", "objectives", "trackers"),
    "completion": tuple(_SCRIPTS),
}
_COMPOSED = ("run", "data")
# What a verb takes beside the keys of a run.
_OPTIONS = {
    "run": ("-m", "--multirun", "--config-dir", "--cfg"),
    "data": ("--config-dir",),
    "data show": ("--config-dir", "--save"),
}
# Keys of `data show`.
_SHOWING = ("split", "index", "count")
# The word after these is a path, which the shell completes itself.
_BEFORE_PATHS = ("--config-dir", "--save")


def main(words: Sequence[str]) -> int:
    """Print a shell's script, or what may follow on a line; the verb ``completion``."""
    from lra_bench.errors import UserError

    if len(words) == 2 and words[0] == "--complete":
        print("\n".join(complete(words[1])))
        return 0
    if len(words) != 1 or words[0] not in _SCRIPTS:
        raise UserError("completion takes one of bash, zsh, fish (lra-bench completion --help)")
    print(_SCRIPTS[words[0]], end="")
    return 0


def complete(line: str) -> list[str]:
    """Return the words that may stand where a command line ends.

    Args:
        line: The line up to the cursor, with the program's name.
    """
    words = re.split(r"\s+", line.lstrip())
    if len(words) <= 2:
        return [verb for verb in _VERBS if verb.startswith(words[-1] if len(words) == 2 else "")]
    verb, word = words[1], words[-1]
    found = [
        choice for choice in _WORDS.get(verb, ()) if len(words) == 3 and choice.startswith(word)
    ]
    if verb not in _COMPOSED or (verb == "data" and len(words) == 3):
        return found
    if words[-2] in _BEFORE_PATHS:
        return []
    shows = words[1:3] == ["data", "show"]
    if word.startswith("-"):
        known = _OPTIONS["data show" if shows else verb]
        return [option for option in known if option.startswith(word)]
    key, equals, value = word.partition("=")
    if shows and equals and key in _SHOWING:
        from lra_bench.types import SPLITS

        choices = SPLITS if key == "split" else ()
        return [f"{key}={choice}" for choice in choices if choice.startswith(value)]
    if shows and not equals:
        found += [f"{name}=" for name in _SHOWING if name.startswith(word)]
        words = [item for item in words if item.split("=")[0] not in _SHOWING]
    return found + _of_hydra(words[2:], word)


def _of_hydra(words: Sequence[str], word: str) -> list[str]:
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra.core.global_hydra import GlobalHydra

    from lra_bench.config import Searching
    from lra_bench.paths import conf_dir

    earlier = [item for item in words[:-1] if "=" in item and not item.startswith("-")]
    # Keys can only be known once the groups are: a task and a model that were not named yet stand
    # in for those that will be.
    for group, option in (("task", "listops"), ("model", "transformer")):
        if not any(item.startswith(f"{group}=") for item in earlier):
            earlier.append(f"{group}={option}")
    with Searching(conf_dir(), ()):
        loader = GlobalHydra.instance().config_loader()
        found = BashCompletion(loader)._query(config_name="run", line=" ".join([*earlier, word]))
    return [choice for choice in found if not choice.startswith("hydra") or word.startswith("h")]
