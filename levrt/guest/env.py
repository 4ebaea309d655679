"""Makes the process what a program of the image expects of its Python.

What the launcher put aside for the start of the interpreter comes back, the
image's own packages can be imported, certificates are found. `os` is not
imported for it: most of a closure's start would be that.
"""

import posix
import sys

_ASIDE = b"LEV_ENV_"

# Where images keep theirs; where libcrypto looks by itself is the host's affair.
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def set_variable(name: bytes, value: "bytes | None") -> None:
    """None unsets it."""
    if "os" in sys.modules:
        import os

        if value is None:
            os.environb.pop(name, None)
        else:
            os.environb[name] = value
    if value is None:
        posix.environ.pop(name, None)
        posix.unsetenv(name)
    else:
        posix.environ[name] = value
        posix.putenv(name, value)


def take_variable(name: str) -> "str | None":
    value = posix.environ.get(name.encode())
    set_variable(name.encode(), None)
    return None if value is None else value.decode("utf-8", "surrogateescape")


def restore_variables() -> None:
    """LD_PRELOAD, PYTHONPATH and the like, for the image's own programs."""
    for name in [n for n in posix.environ if n.startswith(_ASIDE)]:
        set_variable(name[len(_ASIDE) :], posix.environ[name])
        set_variable(name, None)


def set_certificates(root: str) -> None:
    if b"SSL_CERT_FILE" in posix.environ or b"SSL_CERT_DIR" in posix.environ:
        return
    for path in (*_CERTIFICATES, root + "/etc/ssl/cert.pem"):
        if _exists(path):
            set_variable(b"SSL_CERT_FILE", path.encode())
            return


def add_image_packages() -> None:
    """The image's packages for this version, behind the bundle's own."""
    for path in _package_directories():
        if path not in sys.path and _exists(path):
            sys.path.append(path)


def _package_directories() -> "list[str]":
    version = "python%d.%d" % sys.version_info[:2]
    places = [
        f"/usr/local/lib/{version}/dist-packages",
        "/usr/lib/python3/dist-packages",
    ]
    for prefix in _prefixes():
        for lib in ("lib", "lib64"):
            places.append(f"{prefix}/{lib}/{version}/site-packages")
    return places


def _prefixes() -> "list[str]":
    """Of virtual environments and other installations, nearest first."""
    path = posix.environ.get(b"PATH", b"").decode("utf-8", "surrogateescape")
    venv = posix.environ.get(b"VIRTUAL_ENV", b"").decode("utf-8", "surrogateescape")
    found = [venv] if venv else []
    found += [d[: -len("/bin")] for d in path.split(":") if d.endswith("/bin")]
    found += ["/usr/local", "/usr"]
    try:
        found += sorted("/opt/" + name for name in posix.listdir("/opt"))
    except OSError:
        pass  # most images have none
    return list(dict.fromkeys(found))


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def add_builtins() -> None:
    """What the module site adds; the interpreter is started without it."""
    import _sitebuiltins
    import builtins

    if not hasattr(builtins, "exit"):
        builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
        builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")
        builtins.help = _sitebuiltins._Helper()


def prepare(root: str, bundled: bool) -> None:
    restore_variables()
    if bundled:
        set_certificates(root)
        add_image_packages()
        add_builtins()
