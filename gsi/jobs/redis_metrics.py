"""Whether Redis answers: measured by every process that works with the queue."""

from gsi.runtime.series import Series

series = Series()
REDIS_REACHABLE = series.gauge(
    "gsi_redis_reachable",
    "1 while Redis answers this process and accepts its commands, with or without jobs. 0 before the first "
    "connection, and while Redis is unavailable or refuses commands: a coordinator's, also because its disk or memory "
    "is full. The process asks at least every two seconds.",
    "0 or 1",
)
