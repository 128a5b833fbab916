"""An entity that is asked for more than it can do does what it can, refuses the rest, and harms nobody else."""

from __future__ import annotations

import asyncio
import json

from tests.e2e.load import Load
from tests.e2e.wye import EXAMPLE, Wye, config, until

WORK = json.dumps({"dataframe_records": [{"do": "sleep", "with": 0.1}]}).encode()


def test_an_overloaded_entity_refuses_at_once_and_leaves_the_others_alone(wye: Wye) -> None:
    """At ten times of what it can take in hand: answers, and 429 as JSON with Retry-After; its neighbour fails nobody."""
    busy = config({"m": 100}, m="actor/1")
    busy["served_entities"][0]["environment_vars"] = {"WYE_QUEUE": "8", "WYE_QUEUE_SECONDS": "0"}
    wye.create("overloaded", busy)
    wye.create("neighbour", config({"m": 100}, m="linear/1"))
    crowd = Load(wye.url, "/serving-endpoints/overloaded/invocations", wye.token, WORK, 80)
    others = Load(wye.url, "/serving-endpoints/neighbour/invocations", wye.token, json.dumps(EXAMPLE).encode(), 4)

    async def run() -> None:
        async with others.running(), crowd.running():
            await crowd.answers(40)
            await others.answers(100)

    asyncio.run(run())
    assert others.tally.failures == []
    assert crowd.tally.failures
    assert all(" 429 " in failure and "REQUEST_LIMIT_EXCEEDED" in failure for failure in crowd.tally.failures)
    until(lambda: wye.predict("overloaded", body=json.loads(WORK)).status_code == 200)
    for name in ("overloaded", "neighbour"):
        wye.client.delete(f"/api/2.0/serving-endpoints/{name}")
