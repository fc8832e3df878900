"""Options that belong together: a dataclass among a command's parameters stands for an option a field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer reads it: in the place of each dataclass its fields, which are made one again.

    Fields are annotated as parameters of commands are: `Annotated[type, typer.Option(...)] = default`.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters = list(_flat(command, hints))

    @wraps(command)
    def run(**given: Any) -> None:
        for name, kind in groups.items():
            values = {field.name: given.pop(field.name) for field in fields(kind)}
            given[name] = kind(**values)
        command(**given)

    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _flat(command: Callable[..., None], hints: Mapping[str, Any]) -> Iterator[Parameter]:
    """The parameters, each by name alone: a group in the middle may have defaults."""
    for name, given in signature(command).parameters.items():
        if not is_dataclass(hints[name]):
            yield Parameter(
                name, Parameter.KEYWORD_ONLY, default=given.default, annotation=hints[name]
            )
            continue
        inner = get_type_hints(hints[name], include_extras=True)
        for field in fields(hints[name]):
            default = Parameter.empty if field.default is MISSING else field.default
            yield Parameter(
                field.name, Parameter.KEYWORD_ONLY, default=default, annotation=inner[field.name]
            )
