"""The access log does not fill the disk."""

import asyncio

from controlplane.up.access_log import keep_small, put_aside


def test_a_large_log_is_put_aside_and_its_writer_told(tmp_path):
    """What was put aside before goes: there are never more than two."""
    log, told = tmp_path / "access.log", []
    assert not put_aside(log, 10, lambda: told.append(1))
    log.write_text("x" * 10)
    assert not put_aside(log, 10, lambda: told.append(1))
    for content in ("first one", "second one"):
        log.write_text(content * 10)
        assert put_aside(log, 10, lambda: told.append(1))
        assert (tmp_path / "access.log.1").read_text() == content * 10
        assert not log.exists()
    assert told == [1, 1]


def test_it_is_looked_at_again_and_again(tmp_path):
    """Until it is no longer wanted."""
    log = tmp_path / "access.log"

    async def watch() -> None:
        done = asyncio.Event()
        watching = asyncio.create_task(keep_small(log, 1, done.set, look=0.001))
        for _ in range(2):
            done.clear()
            log.write_text("xx")
            await asyncio.wait_for(done.wait(), 30)
        watching.cancel()

    asyncio.run(watch())
    assert not log.exists()


def test_a_disk_in_trouble_does_not_end_the_looking(tmp_path, caplog):
    """What could not be put aside is put aside when it can be; the log says so once."""
    log, aside = tmp_path / "access.log", tmp_path / "access.log.1"

    async def watch() -> None:
        done = asyncio.Event()
        log.write_text("xx")
        aside.mkdir()
        watching = asyncio.create_task(keep_small(log, 1, done.set, look=0.001))
        while not caplog.records:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.001)
        aside.rmdir()
        await asyncio.wait_for(done.wait(), 30)
        watching.cancel()

    asyncio.run(watch())
    assert not log.exists()
    (told,) = caplog.records
    assert "cannot be kept small" in told.getMessage()
