"""Column types, each with texts of values at its edges, and names that are valid and odd."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from types import MappingProxyType
from typing import Final

BUILT_IN: Final = MappingProxyType(
    {
        "smallint": ("-32768", "32767", "0"),
        "int": ("-2147483648", "2147483647", "7"),
        "bigint": ("-9223372036854775808", "9223372036854775807", "1"),
        "numeric": ("NaN", "Infinity", "-Infinity", "0.000", "1e1000", "-0.10", "9" * 200, "1e-300"),
        "numeric(10,-2)": ("12345", "0", "NaN"),
        "numeric(3,5)": ("0.00123", "0"),
        "numeric(12,4)": ("1.5", "-99999999.9999", "NaN"),
        "real": ("NaN", "Infinity", "-0", "3.4028235e38", "1e-45", "0.1"),
        "double precision": ("NaN", "-Infinity", "-0", "1.7976931348623157e308", "5e-324", "0.30000000000000004"),
        "money": ("-92233720368547758.08", "92233720368547758.07", "0"),
        "boolean": ("t", "f"),
        "oid": ("0", "4294967295"),
        "xid8": ("18446744073709551615", "3"),
        "tid": ("(0,1)", "(4294967295,65535)"),
        "pg_lsn": ("0/0", "FFFFFFFF/FFFFFFFF"),
        "date": ("infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "2024-02-29"),
        "time": ("24:00", "00:00:00.000001"),
        "time(0)": ("23:59:59.9", "12:00"),
        "timetz": ("00:00+15:59", "24:00-15:59"),
        "timestamp": ("infinity", "294276-12-31 23:59:59.999999", "4713-01-01 00:00 BC", "2026-03-29 02:30"),
        "timestamptz": ("-infinity", "294276-12-31 23:59:59.999999+00", "2026-10-25 02:30 Europe/Brussels"),
        "timestamptz(3)": ("2026-01-01 00:00:00.9996+05:45", "infinity"),
        "interval": ("-178000000 years", "1 mon -1 day +00:00:00.000001", "-1 year -2 mons +3 days -04:05:06.7", "0"),
        "interval day to second(2)": ("-1 day 2.25 seconds", "0"),
        "interval year to month": ("-3 years 2 mons", "0"),
        "bytea": (r"\x", r"\x00", r"\x5c2e0a095c4e", r"\xff00fe"),
        "bit(5)": ("00000", "10101"),
        "bit varying": ("", "1", "10" * 100),
        "uuid": ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        "inet": ("0.0.0.0/0", "::ffff:1.2.3.4", "10.1.2.3/8", "fe80::1/64"),
        "cidr": ("2001:db8::/32", "10.0.0.0/8"),
        "macaddr": ("ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"),
        "macaddr8": ("ff:ff:ff:ff:ff:ff:ff:ff",),
        "point": ("(NaN,Infinity)", "(-0,0.1)"),
        "line": ("{1e300,1e-300,0.1}", "{1,-1,0}"),
        "lseg": ("[(-1e300,0.1),(1e300,-0.1)]",),
        "box": ("(Infinity,1),(-Infinity,0)", "(1,1),(0,0)"),
        "path": ("[(1e-300,1)]", "((0,0),(1,1),(2,0))"),
        "polygon": ("((0.1,0.2))", "((0,0),(1,1),(2,0))"),
        "circle": ("<(0.1,0.2),1e300>", "<(0,0),0>"),
        "json": ('  {"a" :1, "a": 2}  ', "null", "1e400", r'"\u0000"'),
        "jsonb": ('{"a": [1, 2.50, null, true, "é\\n\\t\\\\"]}', "null", "1e400", "{}"),
        "jsonpath": ("$.a[*] ? (@ > 1)", r'strict $."key with \"quotes\""'),
        "tsvector": ("a:1A fat:2B,4C cat:5", "", r"'it''s' 'back\\slash':3"),
        "tsquery": ("fat & !cat:* <-> rat", "", "a <3> b"),
        "int4range": ("empty", "(,)", "[1,1]"),
        "int8range": ("[-9223372036854775808,0)", "[1,)"),
        "numrange": ("[NaN,NaN]", "(,1.5]", "empty"),
        "tsrange": ('["2026-01-01 00:00",infinity]', "empty"),
        "tstzrange": ("(-infinity,infinity)", "(,)"),
        "daterange": ("[2026-01-01,)", "(2026-01-01,2026-01-03]"),
        "int4multirange": ("{}", "{(,1),[5,7),[9,)}"),
        "int8multirange": ("{[1,2),[2,3)}", "{}"),
        "nummultirange": ("{[0.1,0.2],(0.3,NaN]}", "{[Infinity,Infinity]}"),
        "tsmultirange": ("{}", '{["2026-01-01 00:00","2026-01-02 00:00")}'),
        "tstzmultirange": ('{["2026-01-01 00:00+00","2026-01-02 00:00+00")}', "{(,)}"),
        "datemultirange": ("{[2026-01-01,2026-02-01),[2027-01-01,)}", "{}"),
        '"char"': ("x", "", "\\"),
        "name": ("n" * 63, r"\.", ""),
        "regclass": ("pg_class", "pg_catalog.pg_type"),
        "regtype": ("integer[]", "text"),
        "regprocedure": ("pg_catalog.length(text)",),
        "regrole": ("postgres",),
        "regnamespace": ("pg_catalog",),
        "regconfig": ("english", "simple"),
        "regcollation": ('"C"', "pg_catalog.default"),
        "regoperator": ("+(integer,integer)",),
        "int2vector": ("1 -2 3", ""),
        "oidvector": ("1 4294967295", ""),
        "pg_snapshot": ("10:20:10,14,15",),
        "txid_snapshot": ("10:20:10,14,15",),
        "aclitem": ("postgres=arwd/postgres", "=r/postgres"),
        "refcursor": ("cur", ""),
        "cid": ("1",),
        "xid": ("3",),
        "xml": ("<a>1 &lt; 2</a>", "text only", "<!-- c --><b x='1'/>", '<?xml version="1.0"?><a/>'),
        "text": (r"\.", r"\N", "", "\n", "\t", "\r\n", "\\", " a ", "é", "e\u0301", "😀", "\x7f", '"', "'", "x" * 3000),
        "text[]": ("{}", '{"",NULL,"NULL","a,b","{x}","\\"q\\"","back\\\\slash"}', "[0:1][2:3]={{a,b},{c,d}}"),
        "int[]": ("[-2:0]={7,8,9}", "{1,NULL}", "{}"),
        "varchar": (r"\.", "trailing ", ""),
        "varchar(7)": ("seven77", "a  ", ""),
        "char(4)": ("a", "  b", ""),
        "bpchar": ("a  ", ""),
        'text COLLATE "C"': ("ä", "Z"),
        "jsonb[]": ('{"{\\"a\\": \\"b,c\\"}"}', "{}"),
        "bytea[]": ('{"\\\\x00ff",""}',),
        "box[]": ("{(1,1),(0,0);(2,2),(1,1)}",),
        "numeric[]": ("{{1.5,NaN},{NULL,-0.10}}",),
        "int4range[]": ('{empty,"[1,2)"}',),
    }
)
OF_EXTENSIONS: Final = MappingProxyType(
    {
        "citext": {"citext": ("MiXed", "straße", "ÀÉ")},
        "hstore": {"hstore": ('a=>1, "b c"=>NULL, "q\\"uote"=>"\\\\"', "")},
        "ltree": {
            "ltree": ("Top.Science", ""),
            "lquery": ("Top.*{1,2}.a|b", "*"),
            "ltxtquery": ("Europe & Russia*@",),
        },
        "cube": {"cube": ("(1,2),(3,4)", "(0)")},
        "isn": {"isbn": ("978-0-393-04002-9",), "ean13": ("978-0-393-04002-9",)},
        "intarray": {"query_int": ("1&(2|3)",)},
        "seg": {"seg": ("1.5 .. 2.5", "~3")},
        "vector": {"vector(3)": ("[1,2,3]", "[0.1,-1e-10,3e5]")},
    }
)
KEYS: Final = ("int", "bigint", "uuid", "text", "varchar(12)", "numeric", "date", 'text COLLATE "C"', "name")
"""Types of keys: those whose values `key` can number."""
TENANT_TYPES: Final = ("int", "bigint", "smallint", "uuid", "text", "varchar(9)", "numeric", "citext", "domain", "name")

_ODD: Final = (
    "{}",
    "{}",
    "{}",
    "T{}",
    "a b{}",
    'q"{}',
    "it's{}",
    "schéma{}",
    "select{}",
    "a.b{}",
    "ŸÆ{}",
    "x*{}",
    "[a]{}",
    "?{}",
    "%{}s",
    "back\\{}",
    "$1{}",
    "$${}",
    "1{}",
    "-{}",
    "--{}",
    "/*{}",
    ";{}",
    ":{}",
    "{{}}{}",
    "😀{}",
    " {} ",
    "tab\t{}",
    "A{}",
    "longlonglonglonglonglonglonglonglonglonglonglonglonglong{}",
    "=, {}",
    "(x){}",
    "#{}",
    "!{}",
    "@{}",
    "table_{}",
    "\u202e{}",
    "&lt;{}",
    "é{}",
    "~{}",
    "|{}",
    "`{}`",
    "NULL{}",
)


def odd_name(random: Random, number: int, *, plain: bool = False) -> str:
    """Make a name that nothing else has: `number` is in it."""
    if plain:
        return f"n{number}"
    form = random.choice(_ODD)
    return form.replace("{{}}", "\x00").replace("{}", f"n{number}").replace("\x00", "{}")


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Write a constant of any text, whatever `standard_conforming_strings` says."""
    doubled = text.replace("'", "''")
    return "E'" + doubled.replace("\\", "\\\\") + "'" if "\\" in text else f"'{doubled}'"


def key(type_: str, number: int) -> str:
    """Write the value of that number of a type of KEYS or TENANT_TYPES."""
    if type_ == "uuid":
        return f"'00000000-0000-4000-8000-{number:012x}'"
    if type_ == "date":
        return f"date '2000-01-01' + {number}"
    if type_ in ("int", "bigint", "smallint"):
        return str(number)
    if type_ == "numeric":
        return f"{number}.{'0' * (number % 3)}" if number % 3 else str(number)
    return literal(("k'{}", "k\\{}", "K {}", "é{}", "-{}")[number % 5].format(number))


def value_of(texts: Sequence[str], random: Random) -> str:
    """Write a value: one of the texts, or now and then none."""
    return "NULL" if random.random() < 0.15 else literal(random.choice(texts))
