"""Strangers at the model services: ``python -m tests.fuzz`` sends them what no client of ours sends.

``attacks.py`` draws calls, ``calling.py`` makes them, ``canary.py`` is the client that must be answered meanwhile,
``campaign.py`` runs all of it against three processes.
"""
