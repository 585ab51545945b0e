"""The guide: a page for each command, links that lead somewhere, and a build without a warning."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from scale.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def test_every_command_has_a_page_with_its_own_help():
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "commands").glob("*.md")}
    assert set(pages) - {"index"} == set(COMMANDS)
    assert all(f"_generated/help/{name}.txt" in pages[name] for name in COMMANDS)


def test_pages_link_only_to_what_exists():
    for page in DOCS.rglob("*.md"):
        if "_generated" in page.parts or "_build" in page.parts:
            continue
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


class Links(HTMLParser):
    """What a page loads and links to, and its anchors."""

    def __init__(self):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if found.get("id"):
            self.anchors.add(found["id"])
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("script", "img", "link", "iframe", "source") and found.get("rel") != "canonical":
            self.loaded += [found[name] for name in ("src", "href") if found.get(name)]


@pytest.mark.slow
def test_the_guide_builds_without_a_warning_and_opens_offline(tmp_path):
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    pytest.importorskip("myst_nb", reason="the extra `docs` is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {}
    for path in tmp_path.rglob("*.html"):
        pages[path] = Links()
        pages[path].feed(path.read_text(encoding="utf-8"))
    assert (tmp_path / "searchindex.js").is_file()
    for path, page in pages.items():
        assert not [url for url in page.loaded if urlsplit(url).netloc], f"{path} loads from a network"
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path.name}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors, f"{path.name}: {link}"
