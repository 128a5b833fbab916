"""What must be so before anything is started."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from controlplane.settings import Settings
from controlplane.up.preflight import CannotStartError, hold_state_dir


def test_a_directory_of_sockets_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    """Whoever can write there could put a socket of their own in the place of ours."""
    settings = Settings.read({}, state_dir=tmp_path / "s")
    hold_state_dir(settings).close()
    try:
        settings.run_dir.chmod(0o777)
        with pytest.raises(CannotStartError, match="can be written by others"):
            hold_state_dir(settings)
    finally:
        shutil.rmtree(settings.run_dir)  # may be in /tmp, where sockets' paths are short
