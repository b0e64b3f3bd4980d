"""All: what comes before the rest is loaded: is this Python new enough, and no traceback for Ctrl-C from here on."""

from __future__ import annotations

import os
import sys

if sys.version_info < (3, 9):  # noqa: UP036
    sys.exit(f"{os.path.basename(sys.argv[0])}: error: needs Python 3.9 or newer")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End with 130 after Ctrl-C; show any other error as Python does."""
    if issubclass(kind, KeyboardInterrupt):
        os._exit(130)
    sys.__excepthook__(kind, error, trace)


sys.excepthook = end
