"""What only an exporter measures: a queue's coordinators, seen from outside."""

from gsi.runtime.series import Series

series = Series()
COORDINATORS = series.gauge(
    "gsi_queue_coordinators",
    "Coordinators that have asked for entries, or renewed a lease, within the last 20 seconds. The exporter alone "
    "reports it, also when it is 0.",
    "coordinators",
)
