"""Completion for shells: scripts that know every command, option and kind of value, made from the tree of commands.

Nothing is started while somebody types, neither this program nor a connection. The names of regions and stores are
taken from the headings of the configuration's text, those of snapshots from the files in which this machine keeps the
last listing of each region.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from backupd.cli.command_tree import CommandFact, OptionFact
from backupd.config.schema import NodeSection
from backupd.operations.snapshots.listed_names import LISTED

_FILES = frozenset({"FILE", "PAGE.html", "SHARE..."})
_FOLDERS = frozenset({"FOLDER"})
_NAMES = {
    "REGION": "@regions",
    "STORE": "@stores",
    "SNAPSHOT": "@snapshots",
    "A": "@snapshots",
    "B": "@snapshots",
    "ID|TIME|latest": "@snapshots",
}
"""Values that are names, with the table of the configuration, or the listing, that has them."""
_STATE = 's/^ *state_dir *= *"\\(.*\\)".*/\\1/p'
_STATE_FOLDER = NodeSection.model_fields["state_dir"].default
_LISTINGS = f"-mindepth 2 -maxdepth 2 -name {LISTED} -exec cat"


def completion_script(shell: str, tree: CommandFact, topics: tuple[str, ...]) -> str:
    """Return the script of a shell, one of SHELLS; `topics` are what `backupd manual` shows."""
    return "\n".join(SHELLS[shell](list(tree.every()), topics)) + "\n"


def _kind(fact: OptionFact, topics: tuple[str, ...]) -> str:
    """Return what completes a value: `file`, `folder`, `none`, `@` and a table, or words."""
    value = (fact.value or "").strip("[]")
    if value in _FILES:
        return "file"
    if value in _FOLDERS:
        return "folder"
    name = "STORE" if "--store" in fact.names else value.rstrip("].")
    if name in _NAMES:
        return _NAMES[name]
    if value == "TOPIC":
        return " ".join(topics)
    return " ".join(word for word in value.split("|") if re.fullmatch(r"[a-z]+", word)) or "none"


def _arguments(command: CommandFact, topics: tuple[str, ...]) -> list[str]:
    """Return what completes each argument; the last one stands for all that follow."""
    return [_kind(one, topics) for one in command.arguments] or ["none"]


def _values(command: CommandFact, topics: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield each option of a command that takes a value, with what completes it."""
    for option in command.options:
        if option.value:
            yield from ((name, _kind(option, topics)) for name in option.names)


def _about(text: str) -> str:
    """Return the first sentence of a help text without its default, as stands beside a word in a list."""
    return re.split(r"\. |\.$", re.sub(r"\s*\[default:.*", "", text))[0]


def _quoted(text: str) -> str:
    """Return text between apostrophes, as bash and zsh read it."""
    return "'" + text.replace("'", "'\\''") + "'"


def _paths(commands: list[CommandFact]) -> str:
    return " | ".join(_quoted(one.name) for one in commands if one.path)


def _walk(commands: list[CommandFact], words: str) -> Iterator[str]:
    """Yield the part that bash and zsh share: which command the words before the cursor name."""
    yield "  local at='' word kind='' place=0 flags=() below=() arguments=()"
    yield f"  for word in {words}; do"
    yield "    if [[ -n $kind ]]; then kind=''; continue; fi"
    yield '    case $word in -*) kind=$(_backupd_value "$at $word"); continue ;; esac'
    yield '    case "${at:+$at }$word" in'
    yield f'      {_paths(commands)}) at="${{at:+$at }}$word" ;;'
    yield "      *) place=$((place + 1)) ;;"
    yield "    esac"
    yield "  done"


def _value_function(commands: list[CommandFact], topics: tuple[str, ...]) -> Iterator[str]:
    yield "_backupd_value() {  # what completes the value of an option, after the command it belongs to"
    yield "  case $1 in"
    for command in commands:
        for name, kind in _values(command, topics):
            yield f"    {_quoted(f'{command.name} {name}')}) echo {_quoted(kind)} ;;"
    yield from ("  esac", "}", "")


def _names_function() -> Iterator[str]:
    """Yield the function of bash and zsh that prints the names in one table of the configuration."""
    yield "_backupd_names() {  # the regions or stores of the configuration, read as text, or the snapshots last listed"
    yield "  local file=${BACKUPD_CONFIG:-/etc/backupd/backupd.toml} text state"
    yield '  text=$({ cat "$file"; find "$(dirname "$file")/conf.d" -name \'*.toml\' -exec cat {} +; } 2>/dev/null)'
    yield "  if [[ $1 == snapshots ]]; then"
    yield f"    state=$(sed -n '{_STATE}' <<<\"$text\" | tail -n 1)"
    yield f'    echo latest; find "${{state:-{_STATE_FOLDER}}}" {_LISTINGS} {{}} + 2>/dev/null | sort -ru'
    yield "  else"
    yield '    sed -n "s/^ *\\[$1\\.\\([a-z0-9_-]*\\)\\].*/\\1/p" <<<"$text" | sort -u'
    yield from ("  fi", "}", "")


def _named() -> Iterator[str]:
    """Yield the lines of bash and zsh that put the names themselves in place of their table."""
    yield '  [[ $kind != @* ]] || kind=$(_backupd_names "${kind#@}")'
    yield "  [[ -n $kind ]] || kind=none"


def _bash(commands: list[CommandFact], topics: tuple[str, ...]) -> Iterator[str]:
    yield from ("# bash completion for backupd, made by `backupd completion bash`.", "")
    yield from _value_function(commands, topics)
    yield from _names_function()
    yield "_backupd() {"
    yield "  local current=${COMP_WORDS[COMP_CWORD]}"
    yield from _walk(commands, '"${COMP_WORDS[@]:1:COMP_CWORD-1}"')
    yield "  case $at in"
    for command in commands:
        options = " ".join(_quoted(name) for one in command.options for name in one.names)
        below = " ".join(_quoted(one.path[-1]) for one in command.below)
        yield f"    {_quoted(command.name)})"
        yield f"      flags=({options} '--help') below=({below})"
        yield f"      arguments=({' '.join(map(_quoted, _arguments(command, topics)))}) ;;"
    yield "  esac"
    yield "  [[ -n $kind ]] || kind=${arguments[place]:-${arguments[-1]}}"
    yield from _named()
    yield "  COMPREPLY=()"
    yield '  if [[ $current == -* ]]; then mapfile -t COMPREPLY < <(compgen -W "${flags[*]}" -- "$current")'
    yield "  elif [[ ${#below[@]} != 0 && $kind == none ]]; then"
    yield '    mapfile -t COMPREPLY < <(compgen -W "${below[*]}" -- "$current")'
    yield "  elif [[ $kind == file || $kind == folder ]]; then"
    yield "    compopt -o filenames 2>/dev/null"
    yield '    if [[ $kind == file ]]; then mapfile -t COMPREPLY < <(compgen -f -- "$current")'
    yield '    else mapfile -t COMPREPLY < <(compgen -d -- "$current"); fi'
    yield '  elif [[ $kind != none ]]; then mapfile -t COMPREPLY < <(compgen -W "$kind" -- "$current")'
    yield "  fi"
    yield "}"
    yield "complete -F _backupd backupd"


def _zsh(commands: list[CommandFact], topics: tuple[str, ...]) -> Iterator[str]:
    yield from ("#compdef backupd", "# zsh completion for backupd, made by `backupd completion zsh`.", "")
    yield from _value_function(commands, topics)
    yield from _names_function()
    yield "_backupd() {"
    yield from _walk(commands, '"${(@)words[2,CURRENT-1]}"')
    yield "  case $at in"
    for command in commands:
        options = [(name, one.about) for one in command.options for name in one.names]
        yield f"    {_quoted(command.name)})"
        yield f"      flags=({_described([*options, ('--help', 'Show this message and exit.')])})"
        yield f"      below=({_described([(one.path[-1], one.summary) for one in command.below])})"
        yield f"      arguments=({' '.join(map(_quoted, _arguments(command, topics)))}) ;;"
    yield "  esac"
    yield "  [[ -n $kind ]] || kind=${arguments[place + 1]:-${arguments[-1]}}"
    yield from _named()
    yield "  if [[ $PREFIX == -* ]]; then _describe -o option flags"
    yield "  elif [[ ${#below} != 0 && $kind == none ]]; then _describe command below"
    yield "  elif [[ $kind == file ]]; then _files"
    yield "  elif [[ $kind == folder ]]; then _files -/"
    yield "  elif [[ $kind != none ]]; then compadd -- ${=kind}"
    yield "  fi"
    yield "}"
    yield ""
    yield 'if [[ $funcstack[1] == _backupd ]]; then _backupd "$@"; else compdef _backupd backupd; fi'


def _described(words: list[tuple[str, str]]) -> str:
    return " ".join(_quoted(f"{word}:{_about(about)}") for word, about in words)


def _fish(commands: list[CommandFact], topics: tuple[str, ...]) -> Iterator[str]:
    yield from ("# fish completion for backupd, made by `backupd completion fish`.", "")
    yield "function __backupd_at --argument-names wanted number more  # whether the words before the cursor name a"
    yield "  set --local at ''  # command, and, where that is asked, this number of its arguments, or more"
    yield "  set --local place 0"
    yield "  set --local value"
    yield "  for word in (commandline --tokenize --cut-at-cursor --current-process)[2..]"
    yield "    if test -n \"$value\"; set value ''; continue; end"
    yield "    switch $word"
    yield "      case " + " ".join(sorted(_valued(commands)))
    yield "        set value taken; continue"
    yield "      case '-*'"
    yield "        continue"
    yield "    end"
    yield '    switch (string trim "$at $word")'
    yield "      case " + " ".join(_fish_quoted(one.name) for one in commands if one.path)
    yield '        set at (string trim "$at $word")'
    yield "      case '*'"
    yield "        set place (math $place + 1)"
    yield "    end"
    yield "  end"
    yield '  test "$at" = "$wanted"; or return 1'
    yield '  test -z "$number"; or test $place -eq $number; or test "$more" = more -a $place -gt $number'
    yield "end"
    yield ""
    yield "function __backupd_text  # the configuration"
    yield "  set --local file /etc/backupd/backupd.toml"
    yield '  test -z "$BACKUPD_CONFIG"; or set file $BACKUPD_CONFIG'
    yield "  begin; cat $file; find (dirname $file)/conf.d -name '*.toml' -exec cat '{}' +; end 2>/dev/null"
    yield "end"
    yield ""
    yield "function __backupd_names --argument-names table  # its regions or stores, or the snapshots last listed"
    yield "  if test $table = snapshots"
    yield f"    set --local state (__backupd_text | sed -n '{_STATE}' | tail -n 1)"
    yield f'    test -n "$state"; or set state {_STATE_FOLDER}'
    yield f"    echo latest; find $state {_LISTINGS} '{{}}' + 2>/dev/null | sort -ru"
    yield "    return"
    yield "  end"
    yield '  __backupd_text | sed -n "s/^ *\\[$table\\.\\([a-z0-9_-]*\\)\\].*/\\1/p" | sort -u'
    yield "end"
    yield ""
    yield "complete --command backupd --no-files"
    for command in commands:
        condition = f"complete -c backupd -n {_fish_quoted(f'__backupd_at {_fish_quoted(command.name)}')}"
        for one in command.below:
            yield f"{condition} -a {one.path[-1]} -d {_fish_quoted(_about(one.summary))}"
        for number, kind in enumerate(_arguments(command, topics) if command.arguments else ()):
            more = " more" if number == len(command.arguments) - 1 else ""
            placed = f"__backupd_at {_fish_quoted(command.name)} {number}{more}"
            yield f"complete -c backupd -n {_fish_quoted(placed)}{_fish_value(kind)}"
        for option in command.options:
            value = f" -r{_fish_value(_kind(option, topics))}" if option.value else ""
            names = "".join(f" -l {name.removeprefix('--')}" for name in option.names)
            yield f"{condition}{names}{value} -d {_fish_quoted(_about(option.about))}"
        yield f"{condition} -l help -d 'Show this message and exit'"


def _valued(commands: list[CommandFact]) -> Iterator[str]:
    """Yield each option that takes a value, of any command."""
    return iter({name for one in commands for option in one.options if option.value for name in option.names})


def _fish_value(kind: str) -> str:
    match kind:
        case "none":
            return " -f"
        case "file":
            return " -F"
        case "folder":
            return " -f -a '(__fish_complete_directories)'"
    return f" -f -a {_fish_quoted(f'(__backupd_names {kind[1:]})' if kind.startswith('@') else kind)}"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: Mapping[str, Callable[[list[CommandFact], tuple[str, ...]], Iterator[str]]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
"""The shells that there is a script for."""
