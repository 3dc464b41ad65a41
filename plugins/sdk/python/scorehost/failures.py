"""Why a call failed, in the terms on which a retry is decided."""

from collections.abc import Callable
from operator import index

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


def text(value: str) -> str:
    """Text for the host, which would end the instance over anything else. What UTF-8 cannot hold becomes U+FFFD."""
    if not isinstance(value, str):
        raise TypeError(f"a text is wanted, not {value!r}")
    if value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def size(value: int) -> int:
    """A whole number for the host, which would end the instance over another."""
    value = index(value)
    if not 0 <= value < 2**32:
        raise ValueError(f"{value} is not a whole number from 0 to {2**32 - 1}")
    return value


def integer(value: int) -> int:
    """A whole number of 64 bits, as the host has them."""
    value = index(value)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} has more than 64 bits")
    return value


def reason(error: BaseException) -> str:
    """An exception in one line: a failure's own words, and with its type what was not meant as one."""
    if isinstance(error, Failure):
        return str(error)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
