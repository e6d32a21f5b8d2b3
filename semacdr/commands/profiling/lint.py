"""``semacdr profile lint``: checks prompts before they cost anything."""

from __future__ import annotations

import argparse
from pathlib import Path

from semacdr.commands.nested import Actions, print_json


def add(action: Actions) -> None:
    """Adds its arguments."""
    lint = action("lint", "check templates and vocabulary: placeholders, schema, examples, contract")
    lint.add_argument(
        "paths", type=Path, nargs="*", metavar="PATH", help="templates or folders; default: all that ship here"
    )
    lint.add_argument("--vocabulary", type=Path, metavar="FILE", help="kinds of things and their words (YAML)")
    lint.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")


def run(args: argparse.Namespace) -> int:
    """Does it: exit code 2 where there is anything to find."""
    from semacdr.profiling.lint import lint, prompt_files

    files = prompt_files(args.paths)
    findings = lint(files, args.vocabulary)
    if args.json:
        print_json({"files": len(files), "findings": findings})
    else:
        for found in findings:
            print(f"{found['file']}: {found['finding']}")
        print(f"{len(files)} templates, {len(findings)} findings")
    return 2 if findings else 0
