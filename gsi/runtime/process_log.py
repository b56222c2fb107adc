"""Logging: structured events on standard error; JSON for machines, colours on a terminal."""

import logging
import sys

import structlog


def configure_logging(role: str, log_format: str = "auto", level: str = "info") -> None:
    """Send every event of this process to standard error, with its role, time (UTC) and level.

    An event also says which job and step it belongs to, where ``structlog.contextvars`` knows it: see
    ``services/coordinator/run_watch.py`` and ``gsi/rpc/call_context.py``.
    """
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _naming(role),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if as_json else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,  # tests configure more than once
    )


def _naming(role: str) -> structlog.typing.Processor:
    """Return what adds the role; a context variable would be missing in other threads."""

    def name(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"role": role, **event}

    return name
