"""The process's log: structured events on standard error, as JSON for machines and in colours on a terminal."""

import logging
import sys

import structlog

from gsi.runtime.printable import replace_controls


def configure_logging(role: str, log_format: str = "auto", level: str = "info") -> None:
    """Send every event of this process to standard error, with role, time (UTC) and level.

    An event also names its job and step, if ``structlog.contextvars`` knows them: see
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
            _add_role(role),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if as_json else _replace_controls,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,  # tests configure more than once
    )


def _add_role(role: str) -> structlog.typing.Processor:
    """Return a processor that adds the role; other threads would not have it as a context variable."""

    def add(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"role": role, **event}

    return add


def _replace_controls(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace control characters, which a job's text may bring to a terminal. JSON escapes them."""
    return {name: replace_controls(value) if isinstance(value, str) else value for name, value in event.items()}
