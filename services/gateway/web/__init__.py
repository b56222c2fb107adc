"""The web page: routes that serve the files of ``page/``, with headers by which a browser runs nothing else.

The page is a client of ``/gsi/v1`` like any other. Its files need no build step. Read next: ``routes.py``, then
``page/app.js``.
"""
