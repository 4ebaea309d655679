"""For the bundle's Python when an entry starts it as a program of its own.

What the launcher put aside for its start comes back, as in the entry itself.
"""

from levrt.guest import env

env.restore_variables()
