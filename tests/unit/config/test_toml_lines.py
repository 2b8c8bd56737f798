"""Line numbers of keys."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from backupd.config.toml_lines import positions

# Every number in this document is the line it stands on.
DOCUMENT = '''# a comment with [brackets] and a = 1
first = 2
"quoted key" = 3
dotted.below.it = 4
list = [5,
  6, # a ] in a comment
  [ 7 ],
]
text = """
not = "a key"
[not a header] \\""" still text
"""
literal = \'\'\'
  # no comment
  x = 1\'\'\'
inline = { a = 16, b = [16, { c = 16 }], "d.e" = 16 }

[ table . "with dots" ] # comment
key = 19
strings = ["a # b", 'c ] d', "e \\" f"]
after = 21
date = 1979-05-27 07:32:00
float = 1.5e3

[[array]]
n = 26
[array.sub]
n = 28
[[array]]
n = 30
[[array.nested]]
n = 32
[array.nested.deep]
n = 34
'''


def scalars(path, value):
    if isinstance(value, dict):
        for name, below in value.items():
            yield from scalars((*path, name), below)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from scalars((*path, index), below)
    else:
        yield path, value


def test_every_key_and_element_has_its_own_line():
    """Each number of the document is found on the line it names."""
    lines = positions(DOCUMENT)
    numbers = {path: value for path, value in scalars((), tomllib.loads(DOCUMENT)) if isinstance(value, int)}

    assert numbers == {path: lines[path] for path in numbers}
    assert len(numbers) == 17


def test_every_value_has_a_line():
    """Nothing that tomllib reads is left without a line."""
    lines = positions(DOCUMENT)

    assert [path for path, _ in scalars((), tomllib.loads(DOCUMENT)) if path not in lines] == []


def test_tables_have_the_line_of_their_header():
    """A missing key can be reported where its table stands."""
    lines = positions(DOCUMENT)

    assert (
        lines[("table",)],
        lines[("table", "with dots")],
        lines[("array", 0)],
        lines[("array", 1)],
        lines[("array", 1, "nested", 0)],
    ) == (18, 18, 25, 29, 31)


TOML_LINES = st.sampled_from(
    [
        "a = 1", "b.c = [1, 2]", "d = ''", 'e = """', '"""', "'''", "[t]", "[[u]]", "[u.v]", "f = {x = 1}", "# [", "",
        "g = [", "]", "1,", '"s",', "h = '''x", "i = 1 # '", '"j k" = "\\""', "l = {y = [1, {z = 2}]}",
    ]
)  # fmt: skip


@given(st.lists(TOML_LINES, max_size=12))
def test_it_ends_and_finds_everything_in_any_document(chosen):
    """Whatever tomllib accepts is scanned to its end, and no value is without a line."""
    text = "\n".join(chosen)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return

    lines = positions(text)

    assert [path for path, _ in scalars((), values) if path not in lines] == []
