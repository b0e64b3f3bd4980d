"""All: what the system has for a person who types: readline, which leaves the drawing to the program; job control."""

from __future__ import annotations

import os
import sys

from text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any
__all__ = ("TERMINAL_GONE", "Readline", "in_background", "is_gnu", "readline", "silence", "termios")
if sys.flags.utf8_mode:  # as with LC_ALL=C: Python speaks UTF-8, but readline would edit single bytes
    os.environ["LC_ALL"] = "C.UTF-8"
try:
    import readline
except ImportError:  # Windows, and a Python built without it
    readline = None  # type: ignore[assignment]
try:
    import termios
except ImportError:  # Windows
    termios = readline = None  # type: ignore[assignment]
TERMINAL_GONE = (OSError, termios.error) if termios else (OSError,)
"""What is raised where a terminal was, once its window is closed."""


class Readline:
    """GNU readline, as far as this Python lets one reach into it."""

    def __init__(self, draw: Callable[[], object], look: Callable[[], object]) -> None:
        """Have it call `draw` in place of drawing its line, and `look` ten times a second while it waits for keys.

        Both are called in the thread that is inside `input()`, the only one that may look at the line. `look` is what
        Python calls there (PyOS_InputHook, "Initialization" in the Python/C manual). Raises ImportError, OSError,
        AttributeError and ValueError where that is not possible.
        """
        import ctypes

        library = ctypes.CDLL(getattr(readline, "__file__", None))  # lets other threads run while it is called
        pointers = [ctypes.c_void_p.in_dll(library, f"rl_{name}_function") for name in ("redisplay", "deprep_term")]
        self._prompt = ctypes.c_char_p.in_dll(library, "rl_display_prompt")  # Ctrl-R has one of its own
        self._line = ctypes.c_char_p.in_dll(library, "rl_line_buffer")
        self._cursor = ctypes.c_int.in_dll(library, "rl_point")  # in bytes
        hook = ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyOS_InputHook")

        def look_and_go_on() -> int:
            look()
            return 0

        self._functions: Any = ctypes.CFUNCTYPE(None)(draw), ctypes.CFUNCTYPE(ctypes.c_int)(look_and_go_on)
        pointers[0].value, hook.value = (ctypes.cast(each, ctypes.c_void_p).value for each in self._functions)
        pointers[1].value = None  # it would give the terminal back between two lines, and what is typed then show twice

    def line(self) -> tuple[str, str, str]:
        """Return the prompt, and what stands before and after the cursor."""
        line, cursor = self._line.value or b"", self._cursor.value
        prompt, before, after = self._prompt.value or b"", line[:cursor], line[cursor:]
        encoding = sys.stdin.encoding
        return (
            prompt.decode(encoding),
            before.decode(encoding, "surrogateescape"),
            after.decode(encoding, "surrogateescape"),
        )


def is_gnu() -> bool:
    """Tell whether it is GNU readline, and not libedit, which macOS has under the same name."""
    return bool(readline) and "libedit" not in (readline.__doc__ or "")


def silence(descriptor: int) -> None:
    """Switch off a terminal's echo, which readline takes to mean that it is to draw nothing itself."""
    settings = termios.tcgetattr(descriptor)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSANOW, settings)


def in_background(descriptor: int = 0) -> bool:
    """Tell whether another job owns the terminal that a descriptor is, so that reading from it would stop this one."""
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except (OSError, AttributeError):  # no job control here
        return False
