"""Counting lines of code: what counts, what does not, and that the count can be recomputed."""

import textwrap

import pytest

from reference.programs import catalogue, lines_of_code


def count(source):
    return lines_of_code.count(textwrap.dedent(source))


def test_blank_lines_comments_and_docstrings_do_not_count():
    assert (
        count('''
            """A module's
            docstring."""

            # a comment
            import math  # counts

            class Circle:
                "A class's docstring."

                def area(self, radius):
                    r"""A method's

                    docstring."""
                    # a comment
                    return math.pi * radius**2
            ''')
        == 4  # import, class, def, return
    )


def test_every_line_of_a_statement_counts():
    assert count("x = [\n    1,\n\n    # a comment\n    2,\n]\n") == 4


def test_a_string_that_is_no_docstring_counts_without_its_blank_lines():
    assert count('x = """one\n\ntwo"""\n') == 2
    assert count('x = 1\n"a string statement"\n') == 2


def test_a_docstring_beside_code_does_not_hide_the_code():
    assert count('def f(): "the docstring"\n') == 1
    assert count('def größe(): """a docstring\nof two lines"""\n') == 1
    assert count('"the docstring"; x = 1\n') == 1


def test_an_f_string_counts_its_lines():
    assert count('x = f"""one\n{1}\ntwo"""\n') == 3


@pytest.mark.parametrize("source", ["", "\n\n", "# only a comment\n", '"""only a docstring"""'])
def test_no_code_is_no_lines(source):
    assert lines_of_code.count(source) == 0


def test_what_is_not_python_is_an_error():
    with pytest.raises(SyntaxError):
        lines_of_code.count("def f(:\n")


@pytest.mark.parametrize("program", catalogue.PROGRAMS)
def test_a_program_counts_fewer_lines_than_its_file_has(program):
    source = catalogue.source(program).read_text(encoding="utf-8")
    assert 30 < lines_of_code.count(source) < len(source.splitlines())
