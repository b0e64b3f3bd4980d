"""How the Python was built that the benchmark runs on: an optimised build runs Python code several percent faster."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import sys
import sysconfig
import time
from pathlib import Path

HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None
CALLS = 1_000_000
SAID_BY_CONFIGURE = {
    "--enable-optimizations": "profile-guided optimisation",
    "--with-lto": "link-time optimisation",
    "--with-pydebug": "debugging checks, which make it several times slower",
    "--enable-bolt": "BOLT",
    "--enable-experimental-jit": "a JIT",
    "--disable-gil": "no global lock",
}
"""What options of Python's own `configure` mean."""


def describe_build() -> str:
    """Return which Python this is, with its uvloop, and how it was built, in a paragraph."""
    uvloop = f", uvloop {importlib.metadata.version('uvloop')}" if HAS_UVLOOP else ", no uvloop"
    which = f"{platform.python_implementation()} {platform.python_version()}{uvloop}"
    where = Path(sys.executable).resolve()
    return f"{which} (`{where}`), built by {platform.python_compiler()} with {how_built()}; {cost_of_call()}."


def how_built() -> str:
    """Return how it was optimised, as far as it is known."""
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    flags = " ".join(str(sysconfig.get_config_var(name) or "") for name in ("OPT", "PY_CFLAGS", "PY_CFLAGS_NODIST"))
    levels = re.findall(r"-O\w+", flags)
    found = [f"`{levels[-1]}`" if levels else "an unknown level of optimisation"]  # the last one counts
    found += [
        what for option, what in SAID_BY_CONFIGURE.items() if option in arguments and f"{option}=no" not in arguments
    ]
    if "-flto" in flags and SAID_BY_CONFIGURE["--with-lto"] not in found:
        found.append(SAID_BY_CONFIGURE["--with-lto"])
    if hasattr(sys, "gettotalrefcount") and SAID_BY_CONFIGURE["--with-pydebug"] not in found:
        found.append(SAID_BY_CONFIGURE["--with-pydebug"])
    if sys.base_prefix == "/usr" and Path("/etc/debian_version").exists():
        found.append("whatever Debian's rules for the package add, which it does not tell (profiles and LTO on x86-64)")
    elif len(found) == 1:
        found.append("nothing more: a plain build, not an optimised one")
    return ", ".join(found)


def cost_of_call() -> str:
    """Return what a call of an empty function takes, the best of several tries: builds can be compared by it."""

    def empty() -> None:
        pass

    tries = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(CALLS):
            empty()
        tries.append(time.perf_counter() - start)
    return f"here a loop around an empty function takes {min(tries) / CALLS * 1e9:.0f} ns a call"
