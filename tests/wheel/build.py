"""Build the wheel and try it in empty environments: bare, and with each extra alone.

Run as ``python -m tests.wheel.build PATH_OF_UV EXTRA...``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main(uv: str, *extras: str) -> None:
    uv = str(Path(uv).absolute())
    with tempfile.TemporaryDirectory(prefix="bgadapters-") as folder:
        run(uv, "build", "--quiet", "--out-dir", folder, str(HERE.parents[1]))
        (wheel,) = Path(folder).glob("*.whl")
        for extra in ("", *extras):
            environment = Path(folder, f"venv-{extra}")
            python = str(environment / "bin" / "python")
            run(uv, "venv", "--quiet", "--python", sys.executable, str(environment))
            what = f"{wheel}[{extra}]" if extra else str(wheel)
            run(uv, "pip", "install", "--quiet", "--python", python, what)
            script = HERE / f"try_{extra or 'bare'}.py"
            run(python, "-I", "-W", "error", "-c", script.read_text(), cwd=folder)
            print(f"wheel, {extra or 'bare'}: passed")


def run(*command: str, cwd: str | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd)


if __name__ == "__main__":
    main(*sys.argv[1:])
