"""Lines for the mini-batch's log; what is below the deployment's `logging_level` is dropped."""

from wit_world.imports import log as host

from .failures import text


def debug(message: object) -> None:
    """For the script's author."""
    host.write(host.Level.DEBUG, text(str(message)))


def info(message: object) -> None:
    """Progress."""
    host.write(host.Level.INFO, text(str(message)))


def warning(message: object) -> None:
    """Something odd."""
    host.write(host.Level.WARNING, text(str(message)))


def error(message: object) -> None:
    """Something failed."""
    host.write(host.Level.ERROR, text(str(message)))
