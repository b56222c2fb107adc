"""The Lua scripts of a queue. Each checks its caller and then changes everything or nothing, in one round trip.

Each script is a file; ``shared/`` has the functions that several scripts need. ``calls`` declares a typed Python
function for each script, and ``loader`` makes it run. A script names no state: the table of transitions in
``gsi/jobs/state.py`` decides which moves it makes. Scripts use only commands that Redis 7.0 and Valkey share, and all
keys of a call have one hash tag.
"""
