"""What a process runs, as a script: it can import nothing of ours before it is told where that is.

Its arguments are the numbers of two descriptors: what it talks to its parent by, and the lifeline.
"""

import json
import socket
import sys


def main() -> None:
    """Hear how to begin, and begin."""
    talk, lifeline = (int(each) for each in sys.argv[1:])
    connection = socket.socket(fileno=talk)
    connection.set_inheritable(False)
    line = connection.makefile("rb", buffering=0).readline()
    if line:  # else its parent has ended
        said = json.loads(line)
        sys.path[:] = said["path"]
        from bgadapters.engines.process.child import Child

        Child(connection, lifeline).serve(said["parent"], said["initializer"])


if __name__ == "__main__":
    main()
