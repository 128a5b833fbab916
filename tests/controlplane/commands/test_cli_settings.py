"""`wye settings`."""

import json

from controlplane.settings import described


def test_every_setting_is_listed(run_bare):
    """Variable, default, unit and meaning of each setting, without a running Wye."""
    result = run_bare("settings")
    assert result.exit_code == 0
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["VARIABLE", "DEFAULT", "UNIT", "MEANING"]
    assert [line.split()[0] for line in lines] == [each["variable"] for each in described()]
    assert any(line.startswith("WYE_REQUEST_TIMEOUT") and "297.0" in line and "seconds" in line for line in lines)


def test_settings_as_json(run_bare):
    """The same for scripts."""
    assert json.loads(run_bare("settings", "-o", "json").stdout) == {"settings": described()}
