"""Sphinx: the guides in this folder, the example scripts, and the API from the docstrings.

sphinx-build -W --keep-going docs build/docs
"""

import importlib.metadata
import warnings

warnings.filterwarnings("ignore", category=FutureWarning)  # what ArviZ says of its next version

project = "pyro_ssvae"
copyright = "its contributors, Apache-2.0"
release = importlib.metadata.version("pyro_ssvae")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
root_doc = "index"
html_theme = "alabaster"
html_theme_options = {"description": "Many data points, few labels", "page_width": "1100px", "sidebar_width": "240px"}
html_copy_source = False

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
add_module_names = False

myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.xref_missing"]
