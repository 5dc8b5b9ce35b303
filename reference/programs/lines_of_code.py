"""Lines of code, counted as the homework counts them: no blank lines, comments or docstrings."""

import ast
import io
import tokenize

_LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def count(source: str) -> int:
    """Return the number of lines of Python `source` that hold code.

    A line counts when it is not blank and belongs to a token other than a comment or a docstring
    (the first statement of a module, class or function, if it is a string). The inner lines of
    any other multi-line string count.

    Raises:
        SyntaxError: `source` is not Python.
    """
    docstrings = _docstrings(ast.parse(source))
    text = source.splitlines()
    rows = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _LAYOUT:
            continue
        row, column = token.start
        position = (row, len(text[row - 1][:column].encode()))  # ast counts columns in bytes
        if not any(start <= position < end for start, end in docstrings):
            rows.update(range(row, token.end[0] + 1))
    return sum(1 for row in rows if text[row - 1].strip())


def _docstrings(tree: ast.Module) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The docstrings' first and one-past-last positions, as (row, column in bytes)."""
    spans = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            string = node.body[0].value
            start = (string.lineno, string.col_offset)
            spans.append((start, (string.end_lineno, string.end_col_offset)))
    return spans
