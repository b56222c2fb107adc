"""What ``test_forks.py`` runs in a fork: says on standard error how it looks to itself, and then does as it is told."""

import json
import os
import sys
import time

seen = {
    "name": __name__,
    "arguments": sys.argv[1:],
    "told": os.environ["TOLD"],
    "home": os.environ.get("HOME"),
    "session": os.getsid(0),
    "has_preloaded": "colorsys" in sys.modules,
}
if __name__ == "__main__":
    print(json.dumps({"event": "ready", **seen}), file=sys.stderr, flush=True)
    if os.environ["TOLD"] == "end":
        sys.exit(3)
    time.sleep(60)
