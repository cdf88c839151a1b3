"""Pages in a browser without a window (Chromium), where there is one."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")


def dumped(file: Path, *options: str) -> str:
    """The page in a file as it is after its scripts."""
    assert CHROMIUM is not None
    profile = f"--user-data-dir={file.parent / 'profile'}"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *options, "--dump-dom", profile, file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def after(script: str, source: str, folder: Path) -> Any:
    """What a script leaves in `found`, run on a page that has drawn itself; no error may occur there."""
    probe = f"""<script>window.problems = []; window.onerror = (m) => problems.push(String(m));
window.addEventListener('load', () => setTimeout(() => {{
  const found = [];
{script}
  document.body.dataset.found = JSON.stringify({{problems, found}});
}}, 300));</script>"""
    file = folder / "probed.html"
    file.write_text(source.replace("</head>", probe + "</head>"), encoding="utf-8")
    dom = dumped(file, "--virtual-time-budget=5000")
    written = re.search(r'data-found="([^"]*)"', dom)
    assert written is not None, "the script did not come to its end"
    result = json.loads(written.group(1).replace("&quot;", '"'))
    assert result["problems"] == []
    return result["found"]
