"""A helper of a workflow, beside it: taken into containers by value."""

from dataclasses import dataclass

FACTOR = 3


@dataclass
class Finding:
    port: int
    state: str = "open"

    def told(self):
        return {"port": self.port, "state": self.state}


def times(n):
    return n * FACTOR
