"""The program that a container with an entry runs: ``python3 /lev/boot.py``.

On the bundle's interpreter or, for ``@remote(python="image")``, the image's.
A script is compiled at each start, so there is nothing in it; and the image's
Python may be an old one.
"""

import sys

root = __file__[: -len("/boot.py")]
if sys.path and sys.path[0] == root:  # the script's directory: no modules there
    del sys.path[0]
sys.path.append(root + "/site")

from levrt._bundle import PYTHON  # type: ignore[import-not-found]  # noqa: E402

if sys.version_info[:2] == PYTHON[:2]:
    from levrt.guest.main import run
else:
    from levrt.guest.mismatch import run
run(root)
