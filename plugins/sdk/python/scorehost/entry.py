"""What the component exports, around the author's `script`. Imported when the script is built, and never by the script.

Every exception ends here: it becomes the contract's failure, and its traceback is in the log.
"""

import linecache
import os
import random
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import script
from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import types as contract

from .failures import Failure, Transient, reason, text
from .output import from_returned

if not callable(getattr(script, "run", None)):
    raise ImportError("script.py has no function `run(mini_batch)`")

# Sources are not there when the script runs. Kept with no time of change, their lines are shown in tracebacks.
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None) or ""
    if file.startswith(os.path.dirname(script.__file__)):
        lines = linecache.getlines(file)
        linecache.cache[file] = (sum(map(len, lines)), None, lines, file)


class Script(exports.Script):
    """The contract's `script`."""

    def init(self) -> None:
        """Calls the author's `init`, if there is one."""
        if hasattr(script, "init"):
            _guarded(script.init)

    def run(self, mini_batch: list[str]) -> contract.Output:
        """Calls the author's `run`."""
        # A retry on another instance must draw the same numbers: the host seeds what this reads by the mini-batch.
        random.seed()
        return _guarded(lambda: from_returned(script.run(mini_batch))._contract())


def _guarded[T](function: Callable[[], T]) -> T:
    try:
        return function()
    except Exception as error:
        if not isinstance(error, Failure):
            traceback.print_exc()
        failure = error
    finally:
        sys.stdout.flush()
    _fail(failure)


def _fail(error: Exception) -> NoReturn:
    case = contract.Failure_Transient if isinstance(error, Transient) else contract.Failure_Permanent
    raise Err(case(text(reason(error))))
