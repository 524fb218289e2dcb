"""A job process for the tests: publishes what a line of JSON on stdin says, and answers with a line on stdout."""

import json
import sys
from typing import Any

from publisher import broadcast_to_project


def answer(order: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"results": [broadcast_to_project(order["project"], event) for event in order["events"]]}
    except Exception as error:
        return {"raised": [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
