from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.media import Media, plain_name


async def content(media: Media, name: str) -> bytes:
    return b"".join([chunk async for chunk in media.read(name)])


async def test_a_file_is_there_in_the_next_run_for_its_owner_alone(tmp_path: Path) -> None:
    name = Media(tmp_path / "media").put(b"tea" * 200_000)
    assert await content(Media(tmp_path / "media"), name) == b"tea" * 200_000
    (path,) = (tmp_path / "media").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["", "../secret", "a" * 64, "A" * 64, "/etc/passwd"])
async def test_no_name_from_outside_leads_anywhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "media").mkdir()
    with pytest.raises(ValueError, match="kept"):
        await content(Media(tmp_path / "media"), name)


async def test_the_oldest_go_when_there_is_no_more_room(tmp_path: Path) -> None:
    media = Media(tmp_path / "media", most=250)
    names = [media.put(bytes([number]) * 100) for number in range(2)]
    for age, name in enumerate(names):
        os.utime(tmp_path / "media" / name, (1000 + age, 1000 + age))
    media.put(bytes([0]) * 100)  # said again, so it is the newest
    last = media.put(bytes([9]) * 100)
    assert await content(media, names[0]) and await content(media, last)
    with pytest.raises(ValueError, match="not kept any more"):
        await content(media, names[1])


async def test_no_more_than_so_many_files_are_kept_and_few_looks_are_taken_at_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media, looks = Media(tmp_path / "media", files=50), 0
    listed = Path.iterdir

    def counted(path: Path) -> Iterator[Path]:
        nonlocal looks
        looks += 1
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", counted)
    names = [media.put(f"{number}".encode()) for number in range(200)]
    assert len(list(listed(tmp_path / "media"))) <= 50
    assert looks < 50, "a stranger's tiny files must not cost a look at all the others each"
    assert await content(media, names[-1]) == b"199"


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("tea.png", "tea.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\a.exe", "a.exe"),
        ("..", ""),
        ("/", ""),
        ("a\0b\n.txt", "ab.txt"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("茶.png", "茶.png"),
        ("x" * 500 + ".jpeg", "x" * 180 + "x" * 15 + ".jpeg"),
    ],
)
def test_the_name_of_a_strangers_file_leads_nowhere(given: str, plain: str) -> None:
    assert plain_name(given) == plain
