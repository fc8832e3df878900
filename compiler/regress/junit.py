"""The report as JUnit XML, which CI systems show."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from hearth.compiler.regress.outcome import ERRORS, Outcome, Report
from hearth.compiler.regress.text import outcome_text
from hearth.runtime.archive.files import unwritable

# XML 1.0 cannot hold these, not even as character references.
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report) -> bytes:
    """One test suite, a test case per recipe; a broken recipe is an error, any other failure a failure."""
    broken = [outcome for outcome in report.failed if outcome.status in ERRORS]
    counts = {
        "tests": len(report.outcomes),
        "failures": len(report.failed) - len(broken),
        "errors": len(broken),
    }
    seconds = sum(outcome.seconds for outcome in report.outcomes)
    attributes = {name: str(count) for name, count in counts.items()} | {"time": _time(seconds)}
    suites = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(
        suites, "testsuite", {"name": _clean(report.folder), **attributes}
    )
    for outcome in report.outcomes:
        _case(suite, report.folder, outcome)
    ElementTree.indent(suites)
    text: bytes = ElementTree.tostring(suites, "utf-8", xml_declaration=True)
    return text + b"\n"


def _case(suite: ElementTree.Element, folder: str, outcome: Outcome) -> None:
    names = {"classname": _clean(folder), "name": _clean(outcome.name)}
    case = ElementTree.SubElement(suite, "testcase", {**names, "time": _time(outcome.seconds)})
    text = _clean("\n".join([outcome_text(outcome), outcome.traceback]).strip())
    if outcome.failed:
        kind = "error" if outcome.status in ERRORS else "failure"
        first = text.partition("\n")[0]
        found = ElementTree.SubElement(case, kind, {"message": first, "type": outcome.status})
        found.text = text
    else:
        ElementTree.SubElement(case, "system-out").text = text


def _clean(text: str) -> str:
    return FORBIDDEN.sub("\ufffd", text)


def _time(seconds: float) -> str:
    return f"{seconds:.3f}"


def write_junit(path: Path, report: Report) -> None:
    """The file that CI uploads."""
    data = junit(report)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise unwritable(path, error, len(data)) from None
