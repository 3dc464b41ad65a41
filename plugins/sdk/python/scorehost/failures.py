"""Why a call failed, in the terms on which a retry is decided."""

from collections.abc import Callable

from componentize_py_types import Err
from wit_world.imports import types as contract


class Failure(Exception):
    """What the host says when a call fails, and what a script raises to say so itself."""


class Permanent(Failure):
    """The same call would fail again."""


class Transient(Failure):
    """Worth another attempt: something was busy or missing for a while."""


def call[T](function: Callable[..., T], *arguments: object) -> T:
    """Calls a function of the host, whose declared failures become exceptions."""
    try:
        return function(*arguments)
    except Err as error:
        failure = error.value
    raise (Transient if isinstance(failure, contract.Failure_Transient) else Permanent)(failure.value)


def reason(error: BaseException) -> str:
    """An exception in one line: a failure's own words, and with its type what was not meant as one."""
    if isinstance(error, Failure):
        return str(error)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
