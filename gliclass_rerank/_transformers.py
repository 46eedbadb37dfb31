"""What must be held wherever transformers is imported.

It finds its parts when they are first asked for, and two threads that ask for different ones at once can each meet
modules that the other has half imported. Two models may well be loaded at the same time.
"""

import os
from threading import RLock
from typing import Final

IMPORTING: Final = RLock()

if hasattr(os, "register_at_fork"):
    # A forked process could never import what another thread was importing: a fork waits for the import.
    os.register_at_fork(before=IMPORTING.acquire, after_in_parent=IMPORTING.release, after_in_child=IMPORTING.release)
