"""Build the wheel and try it in empty environments: bare, with each extra, beside pytest.

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
        tried = {
            "bare": [str(wheel)],
            "pytest": [str(wheel), "pytest"],
            "pytest 8": [str(wheel), "pytest<9"],
        }
        tried |= {extra: [f"{wheel}[{extra}]"] for extra in extras}
        for name, what in tried.items():
            environment = Path(folder, f"venv-{name.replace(' ', '-')}")
            python = str(environment / "bin" / "python")
            run(uv, "venv", "--quiet", "--python", sys.executable, str(environment))
            run(uv, "pip", "install", "--quiet", "--python", python, *what)
            script = HERE / f"try_{name.partition(' ')[0]}.py"
            run(python, "-I", "-W", "error", "-c", script.read_text(), cwd=folder)
            print(f"wheel, {name}: passed")


def run(*command: str, cwd: str | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd)


if __name__ == "__main__":
    main(*sys.argv[1:])
