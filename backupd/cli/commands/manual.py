"""`manual`: the manual that ships in the package, and what is printed from the code that defines it."""

from __future__ import annotations

import importlib.resources
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

import backupd
from backupd.cli import output
from backupd.cli.command_tree import command_tree
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
    "speed",
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
    man: Annotated[
        Path | None,
        typer.Option("--man", metavar="FOLDER", show_default=False, help="Write everything as man pages into FOLDER."),
    ] = None,
) -> None:
    """Show the manual: list its topics, show one, or search in all of them.

    On a terminal a topic is rendered and paged; elsewhere it is plain text in Markdown. Commands, configuration, exit
    statuses, metrics and alerts are printed from the code that defines them. With --man, every command and topic is
    written as a page that `man` shows, into FOLDER's man1, man5 and man7; pages that are there are replaced.

    \b
    Examples:
      backupd manual
      backupd manual restore
      backupd manual --search sequence
      backupd manual --man ~/.local/share/man
    """
    for option, given in (("--search", search), ("--man", man)):
        if topic is not None and given is not None:
            raise UsageError(f"{option} goes without a TOPIC", hint="It looks into all of them.")
    root = context.find_root().command
    if man is not None:
        _write_pages(root, man)
        return
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
        return "\n".join([_resource(f"manual/{topic}.md").rstrip(), *_ending(topic)]) + "\n"
    from backupd.model.text import did_you_mean

    raise UsageError(f'the manual has no topic "{topic}"', hint=did_you_mean(topic, list(topics())))


def _ending(topic: str) -> Iterator[str]:
    """Yield what a topic says of this version of the program, below what its file says."""
    if topic == "restore":
        from backupd.repository.help_files import own_hashes

        yield from ("", "The SHA-256 of this version's own `recover`:", "", f"    {own_hashes()['recover']}")


def _resource(path: str) -> str:
    return importlib.resources.files("backupd").joinpath(path).read_text("utf-8")


_PLAIN_WIDTH = 80
"""Columns of a topic where no terminal is."""
_WIDEST = 110
"""Columns of a topic on a terminal at most: longer lines are hard to read."""


def _show(text: str) -> None:
    """Print a topic: drawn on a terminal as wide as that is, and as text of 80 columns elsewhere.

    A table whose words do not fit beside each other is written as one block a row.
    """
    from backupd.cli.manual_text import fitted, fitted_block, manual_blocks, needed_width

    if not sys.stdout.isatty():
        output.print_lines(fitted(text, _PLAIN_WIDTH))
        return
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.text import Text

    console = Console()
    width = min(console.width, _WIDEST)
    os.environ.setdefault("LESS", "-FRX")  # colours pass, and what fits on the screen is not paged
    with console.pager(styles=True):
        drawn: list[str] = []
        for block in manual_blocks(text):
            if block.kind == "table" and needed_width(block) > width:
                console.print(Markdown("\n".join(drawn)), width=width)
                drawn.clear()
                console.print()
                for line in fitted_block(block, width):
                    console.print(Text(line.replace("`", "")), width=width, soft_wrap=True)
                console.print()
            else:
                drawn += [*block.lines, ""]
        console.print(Markdown("\n".join(drawn)), width=width)


def _write_pages(root: Any, folder: Path) -> None:
    from backupd.cli.man_pages import man_pages

    texts = {topic: text_of(root, topic) for topic in topics()}
    for page in man_pages(command_tree(root), texts, backupd.__version__):
        path = folder / page.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page.text, "utf-8")
        except OSError as error:
            raise UsageError(
                f"the man page {path} cannot be written: {error.strerror}", hint="Name a folder of yours."
            ) from error


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
    found = [one for one in command_tree(root).every() if not one.below]
    yield from _table(("command", "does"), ((f"`backupd {one.name}`", one.summary) for one in found))
    for one in found:
        yield from (f"## backupd {one.name}", "")
        for paragraph in one.paragraphs:
            yield from (paragraph, "")
        yield from _table(
            ("option", "meaning"), ((f"`{option.typed}`", option.about) for option in (*one.arguments, *one.options))
        )


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
    yield from (title, "", "What every byte on the store means: the contract for those who write a reader.")
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
