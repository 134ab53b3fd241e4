"""How big the product is: lines of code that are neither empty nor comment, by module and by function."""

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
    """Lines of the whole product that are neither empty nor a comment alone."""
    return sum(
        1
        for path in _sources()
        for line in path.read_text("utf-8").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    )


def _sources() -> list[Path]:
    return sorted(PRODUCT.rglob("*.py"))


if __name__ == "__main__":
    print(f"{product_lines()} product lines in {len(modules())} modules")
