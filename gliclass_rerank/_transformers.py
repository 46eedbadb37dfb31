"""What must be held wherever transformers is imported.

It finds its parts when they are first asked for, and two threads that ask for different ones at once can each meet
modules that the other has half imported. Two models may well be loaded at the same time.
"""

from threading import RLock
from typing import Final

IMPORTING: Final = RLock()
