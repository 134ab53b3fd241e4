"""How big the product is: lines of code by module, by function and in all. Documentation counts for nothing."""

import ast
from collections.abc import Iterator
from pathlib import Path

PRODUCT = Path(__file__).parents[1] / "src" / "ostiary"
PRODUCT_MAX_LINES = 20_000
MODULE_MAX_LINES = 500
FUNCTION_MAX_LINES = 70


def modules() -> dict[str, int]:
    """Every module of the product: lines of the file."""
    return {str(path.relative_to(PRODUCT)): path.read_text("utf-8").count("\n") for path in _sources()}


def functions() -> Iterator[tuple[str, int]]:
    """Every function of the product, as `module:line name`, with its lines."""
    for path in _sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                yield f"{path.relative_to(PRODUCT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def product_lines() -> int:
    """Lines of code of the whole product as `cloc` counts them: neither empty nor comment nor docstring."""
    return sum(_code_lines(path) for path in _sources())


def written_lines() -> int:
    """Lines of the whole product that are neither empty nor a comment alone: code and docstrings."""
    return sum(len(_written(path)) for path in _sources())


def _code_lines(path: Path) -> int:
    return len(_written(path) - _docstring_lines(ast.parse(path.read_text("utf-8"))))


def _written(path: Path) -> set[int]:
    lines = enumerate(path.read_text("utf-8").splitlines(), start=1)
    return {number for number, line in lines if line.strip() and not line.lstrip().startswith("#")}


def _docstring_lines(tree: ast.Module) -> set[int]:
    """The lines of every string that stands as a statement: what `cloc` calls comment."""
    strings = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )
    return {line for node in strings for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def _sources() -> list[Path]:
    return sorted(PRODUCT.rglob("*.py"))


if __name__ == "__main__":
    print(f"{product_lines()} lines of code ({written_lines()} with docstrings) in {len(modules())} modules")
