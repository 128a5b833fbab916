"""Directories that are made once: however many ask, in however many hosts, and whatever became of those who began."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from model_worker.made_once import MadeOnce, Say


class Maker:
    """Makes directories when it is let, and counts."""

    def __init__(self) -> None:
        self.made = 0
        self.begun = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def __call__(self, directory: Path, _lock: int, say: Say) -> None:
        """Make a directory with one file."""
        self.made += 1
        assert not os.listdir(directory)
        (directory / "half").touch()
        say("half")
        self.begun.set()
        await self.may_go_on.wait()
        (directory / "half").rename(directory / "whole")
        say("whole")


def test_many_who_ask_share_one_making(tmp_path: Path) -> None:
    """Ten at once make it once, each hears all of how, and so does who asks when it is done."""

    async def scenario() -> None:
        once, maker = MadeOnce(tmp_path / "d"), Maker()
        heard: list[list[str]] = [[] for _ in range(11)]
        asking = [asyncio.create_task(once.get("k", maker, heard[n].append)) for n in range(9)]
        await maker.begun.wait()
        asking.append(asyncio.create_task(once.get("k", maker, heard[9].append)))
        maker.may_go_on.set()
        assert set(await asyncio.gather(*asking)) == {tmp_path / "d" / "k"}
        await once.get("k", maker, heard[10].append)
        assert maker.made == 1
        assert heard == [["half", "whole"]] * 11

    asyncio.run(scenario())


def test_two_hosts_make_it_once(tmp_path: Path) -> None:
    """The second waits for the first, says so, and finds it made."""

    async def scenario() -> None:
        first, second, maker = MadeOnce(tmp_path), MadeOnce(tmp_path), Maker()
        making = asyncio.create_task(first.get("k", maker, lambda _: None))
        await maker.begun.wait()
        waits = asyncio.Event()
        waiting = asyncio.create_task(second.get("k", maker, lambda _: waits.set()))
        await waits.wait()
        maker.may_go_on.set()
        assert await making == await waiting
        assert maker.made == 1

    asyncio.run(scenario())


def test_what_was_left_half_made_is_made_again(tmp_path: Path) -> None:
    """A host that ends while it makes one leaves nothing that another would take for whole."""

    async def scenario() -> None:
        once, maker = MadeOnce(tmp_path), Maker()
        asking = asyncio.create_task(once.get("k", maker, lambda _: None))
        await maker.begun.wait()
        await once.close()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (tmp_path / "k" / "half").exists()
        assert not once.has("k")
        maker.may_go_on.set()
        path = await MadeOnce(tmp_path).get("k", maker, lambda _: None)
        assert [file.name for file in path.iterdir()] == ["whole"]

    asyncio.run(scenario())


def test_a_failure_is_told_to_all_and_not_kept(tmp_path: Path) -> None:
    """Everybody who waited has the error; who asks later begins again. One who gives up takes nothing from the others."""

    async def scenario() -> None:
        once, maker = MadeOnce(tmp_path), Maker()

        async def fail(directory: Path, lock: int, say: Say) -> None:
            await maker(directory, lock, say)
            raise ValueError("no")

        asking = [asyncio.create_task(once.get("k", fail, lambda _: None)) for _ in range(3)]
        await maker.begun.wait()
        asking[0].cancel()
        maker.may_go_on.set()
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, ValueError, ValueError]
        assert not (tmp_path / "k").exists()  # the disk may have been full of it
        assert await once.get("k", maker, lambda _: None) == tmp_path / "k"

    asyncio.run(scenario())


def age(directory: Path, key: str, seconds: float) -> None:
    """Let a directory's last use be so long ago."""
    then = time.time() - seconds
    os.utime(directory / f"{key}.done", (then, then))


def test_what_nobody_has_used_for_long_is_removed(tmp_path: Path) -> None:
    """Age counts from the last use by whomever; what a living user has ever asked for is in use."""

    async def scenario() -> None:
        once, maker = MadeOnce(tmp_path), Maker()
        maker.may_go_on.set()
        for key, user in (("old", "gone"), ("lives", "me"), ("new", "gone"), ("touched", "gone")):
            await once.get(key, maker, lambda _: None, user)
            age(tmp_path, key, 0 if key == "new" else 1000)
        await MadeOnce(tmp_path).get("touched", maker, lambda _: None, "somebody of another host")
        assert await once.tidy({"me"}, 500) == ["old"]
        assert [name for name in sorted(os.listdir(tmp_path)) if "." not in name] == ["lives", "new", "touched"]
        assert [name for name in os.listdir(tmp_path) if "old" in name] == ["old.lock"]
        # For those who do not know this user it is in use as well.
        assert await MadeOnce(tmp_path).tidy((), 500) == []
        await once.get("old", maker, lambda _: None)
        assert maker.made == 5

    asyncio.run(scenario())


def test_what_is_half_made_or_half_removed_goes_unless_it_is_being_made(tmp_path: Path) -> None:
    """A crash in the middle of either leaves nothing for ever; another host's work in progress is left alone."""

    async def scenario() -> None:
        once, other, maker = MadeOnce(tmp_path), MadeOnce(tmp_path), Maker()
        for key in ("half-made", "half-removed"):
            (tmp_path / key).mkdir()
        (tmp_path / "half-removed.users").write_text("gone\n")
        making = asyncio.create_task(once.get("k", maker, lambda _: None))
        await maker.begun.wait()
        assert await other.tidy((), 0) == ["half-made", "half-removed"]
        assert await once.tidy((), 0) == []
        maker.may_go_on.set()
        assert (await making / "whole").exists()

    asyncio.run(scenario())


def test_what_is_half_removed_is_not_whole_because_it_is_used(tmp_path: Path) -> None:
    """A host was killed while it removed what a living user asks for again: the rest goes, and it is made again."""

    async def scenario() -> None:
        once, maker = MadeOnce(tmp_path), Maker()
        maker.may_go_on.set()
        await once.get("k", maker, lambda _: None, "me")
        (tmp_path / "k.done").unlink()
        assert await once.tidy({"me"}, 1000) == ["k"]
        assert not once.has("k")

    asyncio.run(scenario())


def test_what_was_deleted_by_hand_is_not_whole_before_it_is_made_again(tmp_path: Path) -> None:
    """Not even for other hosts, nor when its making is given up."""

    async def scenario() -> None:
        once, maker = MadeOnce(tmp_path), Maker()
        (tmp_path / "k.done").touch()
        asking = asyncio.create_task(once.get("k", maker, lambda _: None))
        await maker.begun.wait()
        assert not MadeOnce(tmp_path).has("k")
        await once.close()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not MadeOnce(tmp_path).has("k")

    asyncio.run(scenario())
