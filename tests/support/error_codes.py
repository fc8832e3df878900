"""Every error code the source can raise, found by reading it: the first argument of the HearthError family.

A code may also come by way of a function that takes it as its parameter `code`; then its callers' literals count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hearth.schemas import errors

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("compiler", "runtime", "schemas")
FAMILY = {
    name: kind.exit_code
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.HearthError)
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Passing:
    """A function that raises the code it is given, put into `template`; one with a _ is its module's own."""

    name: str
    index: int
    template: str
    exit_code: int
    module: Path

    def codes(self, call: ast.Call, module: Path) -> list[str]:
        """The codes of one call, empty where it calls something else."""
        private = self.name.startswith("_")
        if called(call) != self.name or (private and module != self.module):
            return []
        given = [*call.args[self.index : self.index + 1]]
        given += [keyword.value for keyword in call.keywords if keyword.arg == "code"]
        return [self.template.format(code) for code in literals(given[0], module)]


def error_codes() -> dict[str, int]:
    """The exit code of every error code."""
    trees = {path: ast.parse(path.read_text()) for path in sources()}
    found: dict[str, int] = {}
    passing: list[Passing] = []
    for module, tree in trees.items():
        for function, call in raised(tree):
            passed = passing_function(function, call, module)
            if passed:
                passing.append(passed)
            else:
                exit_code = FAMILY[called(call)]
                found |= dict.fromkeys(literals(call.args[0], module), exit_code)
    for module, tree in trees.items():
        for call in calls(tree):
            for each in passing:
                found |= dict.fromkeys(each.codes(call, module), each.exit_code)
    return found


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def raised(tree: ast.Module) -> Iterator[tuple[Function | None, ast.Call]]:
    """Every call of an error class, with the function it stands in."""
    inside = {
        id(call): function
        for function in ast.walk(tree)
        if isinstance(function, Function)
        for call in calls(function)
    }
    for call in calls(tree):
        if called(call) in FAMILY:
            yield inside.get(id(call)), call


def passing_function(function: Function | None, call: ast.Call, module: Path) -> Passing | None:
    if function is None or not call.args:
        return None
    names = [argument.arg for argument in function.args.args if argument.arg != "self"]
    template = {"code": "{}", "f'archive.{code}'": "archive.{}"}.get(ast.unparse(call.args[0]))
    if template is None or "code" not in names:
        return None
    exit_code = FAMILY[called(call)]
    return Passing(function.name, names.index("code"), template, exit_code, module)


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def literals(code: ast.expr, module: Path) -> list[str]:
    """The strings an expression may be; a code that cannot be read off is no stable code."""
    match code:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp(body=body, orelse=orelse):
            return literals(body, module) + literals(orelse, module)
    raise AssertionError(f"{module}:{code.lineno}: write the error's code as a literal")
