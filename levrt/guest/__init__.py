"""What runs inside a container.

In the runtime bundle these modules lie at the same place, below a ``levrt``
whose ``__init__`` is `facade.py`: what is pickled as ``levrt.guest.load.…`` on
the host is found under that name in the container. They import nothing of the
rest of levrt but ``levrt.bson``, and as little as they can at all: imports are
what a closure's start costs.
"""
