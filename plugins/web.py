"""Lets the brain read pages of the web: a tool that is off until `[tools] allow = ["read_page"]` in bot.toml.

Addresses of your own network are refused, whatever a page or a person says.
"""

from roost import tool
from roost.fetching import NotFetched, fetch
from roost.hypertext import to_markdown

MOST = 1_000_000  # bytes


@tool(standard=False, outside=True)
async def read_page(url: str) -> str:
    """Read a page of the web.

    url: its address, beginning with https://
    """
    try:
        page = await fetch(url, max_bytes=MOST)
    except NotFetched as error:
        return f"It cannot be read: {error}"
    return to_markdown(page.text) if "html" in page.mime else page.text
