"""Pages of the site that lie elsewhere in the repository, and links between them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = "docs/"
# A file or folder of the repository, and where the site has it.
ELSEWHERE: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks/running.md",
    "benchmarks/log": "benchmarks/log",
    "integrations/gliclass-haystack/README.md": "guide/adapters/haystack.md",
    "integrations/langchain-gliclass/README.md": "guide/adapters/langchain.md",
    "integrations/llama-index-postprocessor-gliclass-rerank/README.md": "guide/adapters/llama-index.md",
    "gliclass_rerank/bundled/minilm-cascade-v1/README.md": "models/minilm-cascade-v1.md",
    "gliclass_rerank/bundled/minilm-l6-v1/README.md": "models/minilm-l6-v1.md",
}
# A list or a table right below a line of text, which GitHub renders and Python-Markdown does not.
CROWDED: Final = re.compile(r"^(?P<text>(?![-*] |[|#> ]|```|\d+\. ).+)\n(?=- |\d+\. |\|)", re.MULTILINE)
FENCED: Final = re.compile(r"^(```.*?^```)$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<path>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")


def _pages() -> Iterator[tuple[str, str]]:
    for source, place in ELSEWHERE.items():
        if (ROOT / source).is_dir():
            yield from ((f"{source}/{path.name}", f"{place}/{path.name}") for path in (ROOT / source).glob("*.md"))
        elif (ROOT / source).is_file():
            yield source, place


PLACES: Final = dict(_pages())
SOURCES: Final = {place: source for source, place in PLACES.items()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside of docs/."""
    for source, place in PLACES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Point links at pages of the site, name files of the repository that are none, and give lists room."""
    here = page.file.src_uri
    folder = posixpath.dirname(SOURCES.get(here, DOCS + here))

    def linked(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found["path"]))
        place = PLACES.get(target) or (target.removeprefix(DOCS) if target.startswith(DOCS) else None)
        if place is not None:
            return (
                f"[{found['text']}]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{found['anchor'] or ''})"
            )
        if not (ROOT / target).exists():
            return found[0]  # left to mkdocs, which refuses it
        return f"`{target}`" if target.endswith(found["text"].strip("`")) else f"{found['text']} (`{target}`)"

    parts = FENCED.split(markdown)
    parts[::2] = [CROWDED.sub(r"\g<text>\n\n", LINK.sub(linked, part)) for part in parts[::2]]
    return "\n".join(parts)  # room around code too
