"""Sphinx's configuration of the documentation. `sh docs/build` builds the site and the manual pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

from docs.command_pages import manual_pages
from sansnet_cli import __version__

ROOT = Path(__file__).parents[1]
project = "sansnet"
author = "the authors of sansnet"
version = release = __version__
html_title = f"sansnet {__version__}"
html_theme = "furo"
html_show_copyright = False
html_copy_source = False
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinxcontrib.mermaid",
    "docs.public_names",
    "docs.source_links",
    "docs.command_pages",
    "docs.glossary_page",
    "docs.conformance_pages",
]
exclude_patterns = ["news"]

myst_enable_extensions = ["deflist"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 4

default_role = "py:obj"  # the docstrings write `name` for every name; one that is not documented stays code
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True  # a default reads as in the source: `NamespaceOptions()`, not all of its fields
python_use_unqualified_type_names = True
highlight_language = "none"
smartquotes = False  # options begin with two hyphens
today_fmt = "%Y-%m-%d"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

man_pages = manual_pages()
man_show_urls = False

# Mermaid draws the pictures in the reader's browser. `docs/build` makes it a part of the site if it can; else it
# comes from a CDN.
MERMAID_VERSION = "11.17.2"
MERMAID_SHA256 = "581ed7d74bd9048d0e3a91363927d72ef22942d7722546b27f7cc29e35390eb8"
BUNDLED = ROOT / ".cache" / f"mermaid-{MERMAID_VERSION}.min.js"
html_static_path = ["site.css", *([str(BUNDLED)] if BUNDLED.exists() else [])]
html_css_files = ["site.css"]
mermaid_version = MERMAID_VERSION
mermaid_use_local = "https://mermaid.invalid/" if BUNDLED.exists() else ""
mermaid_init_config = {"startOnLoad": False, "fontFamily": "inherit"}


def use_bundled_mermaid(app: Sphinx, _page: str, _template: str, _context: dict[str, Any], doctree: Any) -> None:
    """Load the bundled Mermaid on the pages with pictures.

    Browsers refuse to import a module from a `file://` page, so the bundled file is an ordinary script, and an import
    map leads the module that the extension imports to what that script defines.
    """
    if doctree is not None and any(node.tagname == "mermaid" for node in doctree.findall()):
        imports = {mermaid_use_local: "data:text/javascript,export default globalThis.mermaid"}
        app.add_js_file(None, body=json.dumps({"imports": imports}), type="importmap", priority=300)
        app.add_js_file(BUNDLED.name, priority=400)


def leave_builtin_type(_app: Sphinx, doctree: Any) -> None:
    """Make no link of the builtin `type` in a signature: attributes of that name would be candidates."""
    for node in list(doctree.findall(pending_xref)):
        if (node.get("reftype"), node.get("reftarget")) == ("class", "type"):
            text = node
            while text.children:
                text = text.children[0]
            node.replace_self(text)


def choose_package(_app: Sphinx, doctree: Any) -> None:
    """Let a name that two packages have mean that of the package whose page it is on."""
    for node in doctree.findall(pending_xref):
        target, module = node.get("reftarget"), node.get("py:module") or ""
        if node.get("refdomain") == "py" and target in ("Serve", "Verdict") and module:
            node["reftarget"] = f"{module.partition('.')[0]}.{target}"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("doctree-read", leave_builtin_type)
    app.connect("doctree-read", choose_package)
    if BUNDLED.exists():
        app.connect("html-page-context", use_bundled_mermaid)
