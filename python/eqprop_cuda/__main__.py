"""Runs the program `eqprop-cuda` that was installed with this package, with the same arguments and exit status."""

import os
import subprocess
import sys
import sysconfig


def program():
    name = "eqprop-cuda" + (sysconfig.get_config_var("EXE") or "")
    # An environment's own folder, then that of `pip install --user`.
    folders = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))]
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
    sys.exit(f"error: no {name} in {' or '.join(folders)}: install the package again (pip install --force-reinstall eqprop-cuda)")


def main():
    arguments = [program(), *sys.argv[1:]]
    if os.name == "posix":
        # The same process: signals reach the program, and its exit status is this one's.
        os.execv(arguments[0], arguments)
    sys.exit(subprocess.call(arguments))


if __name__ == "__main__":
    main()
