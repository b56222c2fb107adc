"""The gateway: OpenAI's HTTP API over the queue.

It keeps nothing: a request is submitted as jobs, whose steps are sent as they are kept. Any number of gateways may
serve one queue. It needs Redis alone, which it reaches by ``gsi/client``. Read next: ``app.py``, then ``answers.py``.
"""
