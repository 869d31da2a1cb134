"""Settings of Sphinx for the documentation; `build.py` beside it calls Sphinx with them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import kalmandp

project = "kalmandp"
author = "The kalmandp developers"
version = release = kalmandp.__version__
copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "docstrings",
              "mathml"]  # fmt: skip
root_doc = "index"
exclude_patterns = ["**/.*"]
default_role = "py:obj"  # `name` in a docstring is a link where that is a name, and code elsewhere

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header", "ref.python"]  # short names that several classes have stay plain

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say more: shapes and units
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_preprocess_types = False

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"kalmandp {release}"
html_show_copyright = False
html_static_path: list[str] = []
html_copy_source = False
html_theme_options = {
    f"{scheme}_css_variables": {"color-brand-primary": blue, "color-brand-content": blue}
    for scheme, blue in (("light", "#0072B2"), ("dark", "#56B4E9"))
}
