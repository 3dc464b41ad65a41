"""Where and when this call runs; and the deployment's settings for the script."""

from typing import overload

from wit_world.imports import context as host

from .failures import Permanent, text


def job() -> str:
    """The job's name."""
    return host.job()


def mini_batch() -> int:
    """The mini-batch's place in the plan, from 0."""
    return host.mini_batch()


def attempt() -> int:
    """1 for the first attempt."""
    return host.attempt()


def deployment() -> str:
    """The deployment's name."""
    return host.deployment()


def remaining_ms() -> int:
    """Milliseconds until this call is stopped."""
    return host.remaining_ms()


def retire() -> None:
    """Ends this instance after the current call, which keeps its result."""
    host.retire()


@overload
def setting(key: str) -> str | None: ...
@overload
def setting[T: (bool, int, float, str)](key: str, default: T) -> T: ...
def setting(key, default=None):
    """The deployment's tag `key`, of the type that `default` has, or `default` where it is absent."""
    found = host.setting(text(key))
    if found is None:
        return default
    if isinstance(default, bool):
        if found not in ("true", "false"):
            raise Permanent(f"setting `{key}` is `{found}`, which is neither `true` nor `false`")
        return found == "true"
    if isinstance(default, (int, float)):
        try:
            return type(default)(found)
        except ValueError:
            wanted = "whole number" if isinstance(default, int) else "number"
            raise Permanent(f"setting `{key}` is `{found}`, which is not a {wanted}") from None
    return found
