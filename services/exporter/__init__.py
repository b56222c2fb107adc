"""The exporter: what a queue holds, as metrics, whether or not a coordinator runs. See ``__main__``."""
