"""Structured logs: JSON lines on standard error, events named `noun.verb_past`.

ERROR means that data is at risk or somebody must act. No prompt and no secret is ever an argument of an event.
"""

import logging
import sys

import structlog


def configure_logging(level: str, *, console: bool = False) -> None:
    """Set up structlog and the standard library's root logger for the whole process.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        console: human-readable lines instead of JSON.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer(sort_keys=True)
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    # aiokafka logs every error twice, once here and once by raising it to us.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL if number > logging.DEBUG else logging.WARNING)
