"""The traffic split of a body."""

from __future__ import annotations

from controlplane.domain import TrafficRoute
from controlplane.schema import rules
from controlplane.schema.fields import Fields, Findings


def parse_traffic(config: Fields, names: list[str], findings: Findings) -> tuple[TrafficRoute, ...]:
    """The split among the served entities `names`; a single one gets all traffic without being asked.

    Without names (some could not be read) routes are only checked one by one, so that no problem is reported that the
    mending of another one would mend.
    """
    before = len(findings)
    traffic = config.object("traffic_config")
    items = (traffic.objects("routes") if traffic is not None else None) or []
    found = [(item.path, _route(item, findings)) for item in items if item is not None]
    routes = [(path, route) for path, route in found if route is not None]
    named = [(path, route.served_entity) for path, route in routes]
    findings.extend(rules.routes_once_each(named))
    if not names:
        return ()
    findings.extend(rules.routes_lead_somewhere(named, names))
    if len(findings) > before:
        return ()
    if not routes and len(names) == 1:
        return (TrafficRoute(names[0], 100),)
    split = tuple(route for _, route in routes)
    path = f"{config.at('traffic_config')}.routes"
    findings.extend(rules.routes_for_all(path, split, names))
    findings.extend(rules.routes_add_up(path, split))
    return split


def _route(fields: Fields, findings: Findings) -> TrafficRoute | None:
    names = ("served_model_name", "served_entity_name")
    name = fields.text(*names)
    fields.required(*names)
    percent = fields.integer("traffic_percentage")
    fields.required("traffic_percentage")
    if percent is not None:
        findings.extend(rules.route_percentage(fields.at("traffic_percentage"), percent))
    return None if name is None or percent is None else TrafficRoute(name, percent)
