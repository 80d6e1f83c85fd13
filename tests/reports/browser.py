"""A page as a real browser shows it: headless Chromium, without a network."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

# Runs in the page once it has loaded. The answer is put into the page, which the browser then prints.
PROBE = """
<script>
addEventListener("load", () => {
  const seen = element => { const box = element.getBoundingClientRect(); return box.width > 0 && box.height > 0 };
  const images = [...document.images];
  const told = {
    title: document.title,
    headings: [...document.querySelectorAll("h2")].map(h => h.textContent),
    images: images.length,
    undecoded: images.filter(i => !i.complete || i.naturalWidth === 0).map(i => i.alt),
    unseen: images.filter(i => !i.closest("details") && !seen(i)).map(i => i.alt),
    cards: [...document.querySelectorAll("#gallery .card")].map(c => c.innerText),
    charts: [...document.querySelectorAll("#charts .chart")].map(c => ({
      title: c.querySelector("h3").textContent,
      heights: [...c.querySelectorAll("rect")].map(r => r.getBoundingClientRect().height),
      widths: [...c.querySelectorAll(".bars i")].map(b => b.getBoundingClientRect().width)})),
    sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    fetched: performance.getEntriesByType("resource").map(r => r.name).filter(n => !n.startsWith("data:")),
  };
  const answer = document.createElement("pre");
  answer.id = "probe";
  answer.textContent = JSON.stringify(told);
  document.body.append(answer);
});
</script>
"""


def show(page: Path, folder: Path, width: int = 1200) -> dict[str, Any]:
    """How Chromium lays out `page` in a window of `width`. Its files go to `folder`, including `page.png`."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "no Chromium; ./run test-all installs it"
    probed = folder / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8") + PROBE, encoding="utf-8")
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000", f"--window-size={width},2400"),
    ]
    subprocess.run([*command, f"--screenshot={folder / 'page.png'}", probed], check=True, capture_output=True)
    dom = subprocess.run([*command, "--dump-dom", probed], check=True, capture_output=True, text=True).stdout
    answer = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)
    assert answer, "the page never finished loading"
    return json.loads(unescape(answer[1]))
