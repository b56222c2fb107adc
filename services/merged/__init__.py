"""Target and PRM of a merged model in one process: one set of layers, two services. Read next: ``__main__.py``."""
