"""`manual`: the manual that ships in the package, and what is printed from the code that defines it."""

from __future__ import annotations

import importlib.resources
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import typer

from backupd.cli import output
from backupd.cli.options import EXIT_STATUS
from backupd.errors import EXIT_CODES, UsageError

WRITTEN = (
    "words",
    "restore",
    "keeper",
    "stores",
    "tenants",
    "drills",
    "service",
    "monitoring",
    "keys",
    "incidents",
    "trust",
    "decisions",
    "design",
)
"""Topics that are files of `backupd/manual`, in the order of reading."""


def add(app: typer.Typer) -> None:
    app.command("manual", epilog=EXIT_STATUS)(manual)


def manual(
    context: typer.Context,
    topic: Annotated[
        str | None,
        typer.Argument(metavar="TOPIC", show_default=False, help="The topic to show. [default: a list of all topics]"),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", metavar="WORD", show_default=False, help="Print every line that holds WORD."),
    ] = None,
) -> None:
    """Show the manual: list its topics, show one, or search in all of them.

    On a terminal a topic is rendered and paged; elsewhere it is plain text in Markdown. Commands, configuration, exit
    statuses, metrics and alerts are printed from the code that defines them.

    \b
    Examples:
      backupd manual
      backupd manual restore
      backupd manual --search sequence
    """
    if topic is not None and search is not None:
        raise UsageError("--search goes without a TOPIC", hint="It looks into all of them.")
    root = context.find_root().command
    if search is not None:
        output.print_lines(_found(root, search))
    elif topic is None:
        output.print_lines(_listed(root))
    else:
        _show(text_of(root, topic))


def topics() -> tuple[str, ...]:
    """Every topic, those that are files first."""
    return (*WRITTEN, *_PRINTED)


def text_of(root: Any, topic: str) -> str:
    """The topic as Markdown; `root` is the group of all commands.

    Raises UsageError when there is no such topic.
    """
    if topic in _PRINTED:
        return "\n".join(_PRINTED[topic](root)).rstrip() + "\n"
    if topic in WRITTEN:
        return _resource(f"manual/{topic}.md")
    from backupd.config.checks import did_you_mean

    raise UsageError(f'the manual has no topic "{topic}"', hint=did_you_mean(topic, list(topics())))


def _resource(path: str) -> str:
    return importlib.resources.files("backupd").joinpath(path).read_text("utf-8")


def _show(text: str) -> None:
    if not sys.stdout.isatty():
        output.print_lines(text.splitlines())
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    os.environ.setdefault("LESS", "-FRX")  # colours pass, and what fits on the screen is not paged
    with console.pager(styles=True):
        console.print(Markdown(text), width=min(console.width, 110))


def _listed(root: Any) -> Iterator[str]:
    yield "Topics of the manual; `backupd manual TOPIC` shows one, `backupd manual --search WORD` looks into all:"
    yield ""
    width = max(map(len, topics()))
    for topic in topics():
        yield f"  {topic:<{width}}  {about(text_of(root, topic))}"


def about(text: str) -> str:
    """Return the line below a topic's title, which says what the topic is about."""
    return text.split("\n")[2]


def _found(root: Any, word: str) -> list[str]:
    wanted = word.casefold()
    lines = [
        f"{topic}:{number}: {line.strip()}"
        for topic in topics()
        for number, line in enumerate(text_of(root, topic).splitlines(), 1)
        if wanted in line.casefold()
    ]
    if not lines:
        raise UsageError(f'no line of the manual holds "{word}"', hint="`backupd manual` lists the topics.")
    return lines


def _titled(title: str, about: str) -> Iterator[str]:
    yield from (f"# {title}", "", about, "")


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    names = list(headings)
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _configuration(_root: Any) -> Iterator[str]:
    from itertools import groupby

    from backupd.config.reference import keys

    yield from _titled("Configuration", "Every key of the configuration file, with type, default and meaning.")
    yield "The file is TOML: the one of `--config`, else of BACKUPD_CONFIG, else `/etc/backupd/backupd.toml`."
    yield "`backupd config example` prints one to start from, `backupd config check` reports all that is wrong with it."
    yield ""
    yield from _table(
        ("type", "is written"),
        (
            ("duration", '`"30s"`, `"12h"`, `"28d"`'),
            ("size", '`"500MB"` or `"2GiB"`'),
            ("bandwidth", '`"20MB/s"`, `"160Mbit/s"` or `"unlimited"`'),
            ("timetable", '`"daily 06:00,18:00 Europe/Brussels"`, `"weekly mon,thu 04:00"`, `"every 6h"` or `"never"`'),
            ("secret file", 'an absolute path, or `"credential:NAME"` for one that systemd hands over'),
            ("pattern", "`public.note`, or `billing.*` with a wildcard"),
        ),
    )
    for section, found in groupby(sorted_by_section(keys()), key=lambda key: key.section):
        yield from (f"## {section}", "")
        yield from _table(
            ("key", "type", "default", "meaning"),
            ((f"`{key.path}`", key.written, f"`{key.default}`", key.meaning) for key in found),
        )


def sorted_by_section(keys: Iterable[Any]) -> list[Any]:
    """The keys with those of a section together, sections in the order in which they first come."""
    found = list(keys)
    order = {section: place for place, section in reversed(list(enumerate(key.section for key in found)))}
    return sorted(found, key=lambda key: order[key.section])


def _commands(root: Any) -> Iterator[str]:
    yield from _titled("Commands", "Every command with its options, as `--help` explains them.")
    found = [(f"backupd {name}", command) for name, command in commands(root)]
    yield from _table(("command", "does"), ((f"`{name}`", _paragraphs(command)[0]) for name, command in found))
    for name, command in found:
        yield from (f"## {name}", "")
        for paragraph in _paragraphs(command):
            yield from (paragraph, "")
        yield from _table(("option", "meaning"), _options(command))


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command below `group` that is not hidden, by its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        elif not command.hidden:
            yield f"{prefix}{name}", command


def _paragraphs(command: Any) -> list[str]:
    """The help text: prose on one line a paragraph, lines that belong apart as an indented block."""
    return [
        "\n".join("    " + line for line in paragraph.removeprefix("\b\n").split("\n"))
        if paragraph.startswith("\b")
        else " ".join(paragraph.split())
        for paragraph in inspect.cleandoc(command.help or "").split("\n\n")
    ]


def _options(command: Any) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        if not getattr(parameter, "hidden", False) and "--help" not in parameter.opts:
            yield f"`{_option(parameter)}`", getattr(parameter, "help", None) or ""


def _option(parameter: Any) -> str:
    """Return an option as it is typed: its names, and a word for its value where it takes one."""
    word = parameter.metavar or parameter.name.upper()
    if parameter.param_type_name == "argument":
        return str(word)
    return ", ".join(parameter.opts) + ("" if parameter.is_flag else f" {word}")


def _exit_status(_root: Any) -> Iterator[str]:
    yield from _titled("Exit status", "Every exit status, and what it means.")
    yield from _table(("status", "meaning"), ((str(code), meaning) for code, meaning in EXIT_CODES.items()))


def _metrics(_root: Any) -> Iterator[str]:
    from backupd.operations.monitoring.metrics import METRICS

    yield from _titled("Metrics", "Every figure that the daemon gives to Prometheus, with its labels.")
    yield "Instants are seconds since 1970, spans are seconds, sizes are bytes. What is not known is left out, never"
    yield "zero; for a store that is away, what was known last is shown. Labels are configured names and words of this"
    yield "program, never a tenant. `backupd manual monitoring` says where the figures go, `backupd manual alerts` what"
    yield "to do when they are bad."
    yield ""
    rows = ((f"`{one.name}`", ", ".join(f"`{label}`" for label in one.labels) or "-", one.help) for one in METRICS)
    yield from _table(("metric", "labels", "meaning"), rows)


def _alerts(_root: Any) -> Iterator[str]:
    from backupd.model.alerts import ALERTS

    yield from _titled("Alerts", "What each alert means, and what to do about it.")
    yield "Names in small letters are the daemon's own alarms: in messages, on the page, in `backupd status` and as"
    yield "`backupd_alarm`. The others are rules of `systemd/alerts.yml`, which also fire when nobody judges any more."
    yield ""
    for alert in ALERTS:
        yield from (f"## {', '.join(alert.names)}", "", f"**Means:** {alert.means}", "", f"**Do:** {alert.do}", "")


def _format(_root: Any) -> Iterator[str]:
    title, _, rest = _resource("FORMAT.md").partition("\n")
    yield from (title, "", "What every byte on the store means: the contract for whoever writes a reader.")
    yield from rest.split("\n")


_PRINTED: dict[str, Callable[[Any], Iterator[str]]] = {
    "configuration": _configuration,
    "commands": _commands,
    "exit-status": _exit_status,
    "metrics": _metrics,
    "alerts": _alerts,
    "format": _format,
}
"""Topics that are printed from what defines them, so that they cannot disagree with it."""
