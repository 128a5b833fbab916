"""What Envoys and replicas know of the load, read when somebody asks and not before.

Nothing runs between two questions, so that an endpoint whose metrics nobody reads costs nothing.
"""

from controlplane.measurements.entities import Measurements
from controlplane.measurements.envoys import Envoys
from controlplane.measurements.fleet import FleetMeasurements

__all__ = ["Envoys", "FleetMeasurements", "Measurements"]
