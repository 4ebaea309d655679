"""``levrt`` inside a container: what an entry may use of it.

Modules of the workflow that come along import the workflow's names as well
(``from levrt import Cr, lev``). Those are here by name, so that the import
works, and say what they are when they are used. Everything is loaded when it
is asked for: most entries need ``lev`` alone.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HERE = {
    "lev": ("levrt.guest.ctx", "lev"),
    "ctx": ("levrt.guest.ctx", "lev"),
    "cli": ("levrt.args", "cli"),
    "remote": ("levrt.guest.workflow", "remote"),
    "File": ("levrt.guest.workflow", "File"),
    "ObjectId": ("levrt.bson", "ObjectId"),
    "LevError": ("levrt.guest.errors", "LevError"),
    "StoreError": ("levrt.guest.errors", "StoreError"),
    "StoreUnavailable": ("levrt.guest.errors", "StoreUnavailable"),
    "DocumentTooLarge": ("levrt.guest.errors", "DocumentTooLarge"),
    "QueryError": ("levrt.guest.errors", "QueryError"),
    "UnsupportedOperation": ("levrt.guest.errors", "UnsupportedOperation"),
}
_MODULES = ("annot", "bson", "guest")


def __getattr__(name: str) -> "Any":
    if name in _HERE:
        module, attribute = _HERE[name]
        value = getattr(__import__(module, fromlist=["*"]), attribute)
    elif name in _MODULES:
        value = __import__("levrt." + name, fromlist=["*"])
    elif name.startswith("_"):
        raise AttributeError("module 'levrt' has no attribute " + repr(name))
    else:
        from levrt.guest.workflow import placeholder

        value = placeholder(name)
    globals()[name] = value
    return value


class _WorkflowModules:
    """Finds modules of levrt that a container does not have, the last of all."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> "Any":
        if not name.startswith("levrt.") or name.startswith(_REAL):
            return None
        from levrt.guest.workflow import submodule_spec

        return submodule_spec(name)


_REAL = ("levrt._", "levrt.annot.", "levrt.guest.")
sys.meta_path.append(_WorkflowModules)


def __dir__() -> "list[str]":
    return sorted([*_HERE, *_MODULES])
