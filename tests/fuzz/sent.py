"""A report on its way from one process to another."""

import base64
import dataclasses
import json

from fuzz.harness import Fault, Report


def sent(report: Report) -> bytes:
    """Return a report as bytes."""
    value = dataclasses.asdict(report)
    value["slowest"] = ""
    for fault in value["faults"]:
        fault["content"] = base64.b64encode(fault["content"]).decode()
    return json.dumps(value).encode()


def read_report(content: bytes) -> Report:
    """Return the report that was sent."""
    value = json.loads(content)
    faults = [
        Fault(fault["what"], base64.b64decode(fault["content"])) for fault in value.pop("faults")
    ]
    value.pop("slowest")
    return Report(**value, faults=faults)
