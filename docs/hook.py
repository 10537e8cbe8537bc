"""The hook of mkdocs.yml: it adds the pages that are made, leads links of the repository to pages of the site, and
holds that no page needs a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from rgal.cli import parser
from rgal.reporting.site.links import DOCS, files_outside, for_the_site, place_of
from rgal.reporting.site.loads import loads_from_elsewhere, loads_own
from rgal.reporting.site.pages import completed, made_pages, text_of_file


def on_config(config: Any) -> Any:
    """Add the pages of methods and results to the navigation."""
    config["nav"] = completed(config["nav"])
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the README as the home page, files outside docs/ that pages link to, and all pages that are made."""
    for path in files_outside():
        if path.suffix in (".md", ".ipynb"):
            files.append(File.generated(config, place_of(path), content=text_of_file(path)))
        else:
            files.append(File.generated(config, place_of(path), abs_src_path=str(path)))
    for place, content in made_pages(parser().format_help()).items():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead the links of a page of docs/ out of docs/ to where these files are in the site."""
    path = DOCS / page.file.src_uri
    return markdown if page.file.generated_by or not path.is_file() else for_the_site(markdown, path)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Load from the site itself what the theme would load from a server."""
    return loads_own(output, page.file.dest_uri)


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    """Do the same for pages that are made of a template alone."""
    return loads_own(output_content, template_name)


def on_post_build(config: Any) -> None:
    """Refuse a site of which a page needs a network."""
    site = Path(config["site_dir"])
    for path in sorted(site.rglob("*.html")):
        if loads := loads_from_elsewhere(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path.relative_to(site)} loads {loads[0]}")
