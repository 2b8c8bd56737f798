"""The types of configured values: durations, sizes, rates, names, keys and files, as people write them.

Each type parses its text, and its error says what is wrong without repeating the text. `ConfigSection` is the base of
every part of the configuration.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from backupd.config.secrets import FileRef, parse_file_ref
from backupd.model.known_keys import is_known_signer
from backupd.model.timetables import Timetable, parse_timetable, parse_zone

_SECONDS: dict[str, float] = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES: dict[str, int] = {
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)},
}
_NUMBER_UNIT = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]+)\s*")


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `28d`, `90s`, `1.5h`, `500ms` or `2w`; `m` means minutes.

    Raises ValueError with a sentence for people.
    """
    number, unit = _split(text, "a duration", "28d, 12h, 30s")
    if unit not in _SECONDS:
        raise ValueError(f"has no known unit of time; write one of {', '.join(_SECONDS)}, as in 28d")
    return timedelta(seconds=number * _SECONDS[unit])


def spell_duration(span: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads as `span`, to the millisecond."""
    seconds = round(span.total_seconds(), 3)
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def parse_size(text: str) -> int:
    """Parse a size such as `2GiB`, `500MB` or `65536B` into bytes; `MB` is 10^6 and `MiB` 2^20.

    Raises ValueError with a sentence for people.
    """
    number, unit = _split(text, "a size", "2GiB, 500MB")
    if unit not in _BYTES:
        raise ValueError("has no known unit of size; write B, KB, MB, GB, TB or KiB, MiB, GiB, TiB, as in 2GiB")
    return round(number * _BYTES[unit])


def parse_bandwidth(text: str) -> int:
    """Parse a bandwidth such as `20MB/s` or `160Mbit/s` into bytes per second; `unlimited` is 0.

    Raises ValueError with a sentence for people.
    """
    if text.strip() == "unlimited":
        return 0
    amount, slash, second = text.rpartition("/")
    if not slash or second.strip() != "s":
        raise ValueError("is not a bandwidth; write an amount per second, as in 20MB/s, or unlimited")
    number, unit = _split(amount, "a bandwidth", "20MB/s, 160Mbit/s, unlimited")
    per_unit = _BYTES.get(f"{unit[:-3]}b", 0) / 8 if unit.endswith("bit") else _BYTES.get(unit, 0)
    rate = round(number * per_unit)
    if rate < 1:
        raise ValueError("is not a bandwidth; write an amount per second, as in 20MB/s, or unlimited")
    return rate


def _split(text: str, what: str, examples: str) -> tuple[float, str]:
    match = _NUMBER_UNIT.fullmatch(text)
    if match is None:
        raise ValueError(f"is not {what}; write a number and a unit, as in {examples}")
    return float(match[1]), match[2].lower()


T = TypeVar("T")

_HOST_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)


def _from_text(parse: Callable[[str], T]) -> BeforeValidator:
    def validate(value: object) -> object:
        if isinstance(value, str):
            return parse(value)
        raise ValueError('must be a string in quotes, as in "…"')

    return BeforeValidator(validate)


def within(low: timedelta, high: timedelta | None = None) -> AfterValidator:
    """Limit a duration; the error writes the limits as people do, where pydantic's own would print Python."""

    def validate(value: timedelta) -> timedelta:
        if value < low:
            raise ValueError(f"must be at least {spell_duration(low)}")
        if high is not None and value > high:
            raise ValueError(f"must be at most {spell_duration(high)}")
        return value

    return AfterValidator(validate)


def _form(pattern: str, sentence: str) -> Callable[[str], str]:
    form = re.compile(pattern)

    def parse(text: str) -> str:
        if form.fullmatch(text) is None:
            raise ValueError(sentence)
        return text

    return parse


def _signer_key(text: str) -> str:
    if re.fullmatch(r"[0-9a-f]{64}", text) is None:
        raise ValueError(
            "must be a signer's public key, 64 hex digits in lower case: put your own here, which "
            "`backupd key generate --signer FILE` made and printed"
        )
    if is_known_signer(text):
        raise ValueError(
            "is a key that anybody can sign with, as its secret half is public: put your own here, which "
            "`backupd key generate --signer FILE` made and printed"
        )
    return text


def _absolute_path(text: str) -> Path:
    if not PurePosixPath(text).is_absolute() or not text.isprintable() or ".." in PurePosixPath(text).parts:
        raise ValueError("must be an absolute path without `..`")
    return Path(text)


def _remote_path(text: str) -> str:
    if not text.strip() or not text.isprintable() or ".." in PurePosixPath(text).parts:
        raise ValueError("must be a folder on the store, absolute or below the login's folder, without `..`")
    return text


def _dsn(text: str) -> str:
    if not text.isprintable() or not re.match(r"\s*(?:[a-z_]+\s*=|postgres(?:ql)?://)", text):
        raise ValueError('must be a connection string, as in "host=/run/postgresql dbname=app user=backupd"')
    return text


def _select(text: str) -> str:
    """Return the statement without its last semicolon. Whether it only reads is left to a read-only transaction."""
    statement = text.strip().removesuffix(";").rstrip()
    if not re.match(r"(?:select|with)\b", statement, re.IGNORECASE) or ";" in statement or "\x00" in statement:
        raise ValueError("must be one SELECT or WITH statement, without a semicolon inside")
    return statement


def _tenant_pattern(text: str) -> str:
    try:
        groups = re.compile(text).groupindex
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error.msg} at position {error.pos}") from None
    if "tenant" not in groups:
        raise ValueError("must have a group named tenant, as in 'tenant_(?P<tenant>[0-9]+)'")
    return text


def _host_key(text: str) -> str:
    kind, _, blob = text.partition(" ")
    if kind not in _HOST_KEY_TYPES:
        raise ValueError(f"must start with a key type: {', '.join(_HOST_KEY_TYPES)}")
    try:
        raw = base64.b64decode(blob.split(" ")[0], validate=True)
    except binascii.Error:
        raw = b""
    if not raw.startswith(len(kind).to_bytes(4, "big") + kind.encode()):
        raise ValueError('must be "type base64", as ssh-keyscan prints it without the host name')
    return f"{kind} {blob.split(' ')[0]}"


def _listen(text: str) -> str:
    """Return the address and port; a port alone is on loopback."""
    found = re.fullmatch(r"(?:([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):)?([0-9]{1,5})", text)
    if found is None or not 1 <= int(found[2]) <= 65535:
        raise ValueError('must be an address and a port, as in "127.0.0.1:9840", or a port alone, which is loopback\'s')
    return f"{found[1] or '127.0.0.1'}:{found[2]}"


NAME_FORM = re.compile(r"[a-z][a-z0-9_-]{0,62}")
Name = Annotated[str, _from_text(_form(NAME_FORM.pattern, "must be 1 to 63 of a-z 0-9 _ -, first a letter"))]
RegionLabel = Annotated[str, _from_text(_form(r"[a-z][a-z0-9-]{0,62}", "must be 1 to 63 of a-z 0-9 -, first a letter"))]
Approval = Annotated[
    str,
    _from_text(_form(r"[A-Za-z0-9][A-Za-z0-9._/#-]{0,63}", "must be a reference of 1 to 64 of A-Z a-z 0-9 . _ / # -")),
]
QueryName = Annotated[str, _from_text(_form(r"[a-z][a-z0-9-]{0,39}", "must be 1 to 40 of a-z 0-9 -, first a letter"))]
Host = Annotated[str, _from_text(_form(r"[A-Za-z0-9._:-]{1,253}", "must be a host name or an address"))]
Listen = Annotated[str, _from_text(_listen)]
User = Annotated[str, _from_text(_form(r"[A-Za-z0-9._@-]{1,64}", "must be a user's name"))]
Identifier = Annotated[
    str, _from_text(_form(r"[^\x00]{1,63}", "must be 1 to 63 characters, as PostgreSQL's names are"))
]
KeyStep = Annotated[
    str,
    _from_text(
        _form(
            r"[^\x00<][^\x00]{0,62}|<[^\x00.]{1,63}\.[^\x00]{1,63}\.[^\x00]{1,63}",
            "must be 1 to 63 characters, as PostgreSQL's names are, or < with a table and its key, as in "
            "<public.organisation.settings_id",
        )
    ),
]
TablePattern = Annotated[
    str, _from_text(_form(r"[^\x00]+\.[^\x00]+", "must be a pattern over schema.table, as in public.session*"))
]
QualifiedTable = Annotated[
    str, _from_text(_form(r"[^\x00.]{1,63}\.[^\x00]{1,63}", "must be a table with its schema, as in public.organizer"))
]
SignerKey = Annotated[str, _from_text(_signer_key)]
AbsolutePath = Annotated[Path, _from_text(_absolute_path)]
RemotePath = Annotated[str, _from_text(_remote_path)]
SecretFile = Annotated[FileRef, _from_text(parse_file_ref)]
Dsn = Annotated[str, _from_text(_dsn)]
Service = Annotated[str, _from_text(_form(r"[A-Za-z0-9_.-]{1,63}", "must be the name of a section of pg_service.conf"))]
SelectStatement = Annotated[str, _from_text(_select)]
TenantPattern = Annotated[str, _from_text(_tenant_pattern)]
HostKey = Annotated[str, _from_text(_host_key)]
TimetableText = Annotated[Timetable, _from_text(parse_timetable)]
Zone = Annotated[str, _from_text(parse_zone)]
Share = Annotated[
    str,
    _from_text(_form(r"all|none|(?:100|[1-9][0-9]?)%", 'must be "all", "none" or a whole percentage, as in "10%"')),
]
Duration = Annotated[timedelta, _from_text(parse_duration)]
Size = Annotated[int, _from_text(parse_size)]
Bandwidth = Annotated[int, _from_text(parse_bandwidth)]
Several = Field(strict=False)
"""Allows a list for a tuple: TOML's arrays are parsed as lists, which strict mode would refuse."""


class ConfigSection(BaseModel):
    """Base of every section: strict, closed and frozen; its errors never repeat what was written."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)
