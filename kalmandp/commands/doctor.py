"""Look through data sets before training: overlapping atoms, wrong units and signs (found from the
data themselves), contradicting labels, outliers, duplicates, frames that two sets share, numbers of
neighbours (sel). The first set is the one to train on, and the others must not repeat it. A finding is an
error if two independent signs support it, and a warning if only one does.

Frames are numbered from 0. Exit status: 0 no errors found, 1 errors found (with --strict: errors
or warnings), or the data cannot be read."""

from __future__ import annotations

import json

#: Started by mpiexec it shares the frames out over the ranks.
ON_RANKS = True


def add_arguments(parser) -> None:
    parser.add_argument("data", nargs="+", metavar="DATA", help="data sets: HDF5, extended XYZ, folders, …")
    parser.add_argument("--input", metavar="INPUT.json", help="compare neighbours with what its model takes")
    parser.add_argument("--rcut", type=float, metavar="Å", help="count neighbours within (and suggest a sel)")
    parser.add_argument("--strict", action="store_true", help="warnings count as errors for the exit status")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args) -> int:
    from kalmandp.doctor import examine
    from kalmandp.errors import InputError
    from kalmandp.ranks.team import team_of
    from kalmandp.training.config.inputs import read_input

    if args.input is not None and args.rcut is not None:
        raise InputError("--input and --rcut are both given; expected one of them")
    model = None if args.input is None else read_input(args.input).model
    findings = examine(args.data, rcut=args.rcut, model=model, team=team_of())
    status = exit_status(findings, args.strict)
    print(_json(args.data, findings, status) if args.json else _text(args.data, findings))
    return status


def exit_status(findings, strict: bool = False) -> int:
    """1 if there is an error among the findings, or, when ``strict``, a warning; 0 otherwise."""
    fatal = {"error", "warning"} if strict else {"error"}
    return int(any(finding.severity in fatal for finding in findings))


def _json(data: list[str], findings, status: int) -> str:
    from dataclasses import asdict

    report = {"data": data, "status": status, "findings": [asdict(finding) for finding in findings]}
    return json.dumps(report, indent=2, ensure_ascii=False)


def _text(data: list[str], findings) -> str:
    from kalmandp.commands.wording import plural
    from kalmandp.doctor import SEVERITIES, ranges

    lines = []
    for name in dict.fromkeys([*data, *(finding.data for finding in findings)]):
        lines.append(name)
        own = [finding for finding in findings if finding.data == name]
        for finding in own:
            where = f" ({ranges(finding.frames)})" if finding.frames else ""
            lines.append(f"  {finding.severity:<8}{finding.check}: {finding.seen}{where}")
            lines.append(f"          → {finding.advice}")
        if not own:
            lines.append("  nothing found")
        lines.append("")
    counts = [plural(sum(f.severity == kind for f in findings), kind) for kind in SEVERITIES]
    return "\n".join([*lines, ", ".join(counts)])
