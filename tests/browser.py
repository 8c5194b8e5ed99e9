"""A page opened in a headless browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --virtual-time-budget={} --dump-dom"
)


def found_in(page: Path, *more: str, hash: str = "", milliseconds: int = 20_000) -> Any:
    """What a page has written as JSON into its element of the id "found"; skips the test where there is no browser, and says so."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        print("\n*** no Chromium found: pages are NOT opened in a browser here ***", file=sys.__stderr__)
        pytest.skip("no Chromium on this machine")
    command = [browser, *FLAGS.format(milliseconds).split(), *more, f"--user-data-dir={page.parent / 'profile'}"]
    dom = subprocess.run([*command, page.as_uri() + hash], capture_output=True, text=True, timeout=120).stdout
    return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom, re.S).group(1)))
