"""The commands of docs/api.md, as they are printed there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.e2e.wye import Wye, until

DOCUMENT = Path(__file__).parents[3] / "docs" / "api.md"

#: A command that is refused ends the block; each answer has a line of its own.
STRICT = """set -euo pipefail
curl() { command curl --silent --show-error --fail-with-body --write-out '\\n' "$@"; }
"""


def test_the_block_of_curl_commands(wye: Wye) -> None:
    """Every one of them is answered with 200, in this order, and what they tell is what the page says."""
    (block,) = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    variables = {**os.environ, "URL": wye.url, "TOKEN": wye.token}
    done = subprocess.run(
        ["bash", "-c", STRICT + block], env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert done.stdout.count('{"predictions":[') == 4
    assert '{"predictions":[42.0' in done.stdout
    assert done.stdout.rstrip().endswith("{}")
    until(lambda: wye.client.get("/api/2.0/serving-endpoints/tour").status_code == 404)
