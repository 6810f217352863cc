"""Build the wheel and try it in empty environments: bare, with each extra, beside pytest.

Run as ``python -m tests.wheel.build PATH_OF_UV EXTRA...``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
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

        def try_out(name: str) -> str:
            environment = Path(folder, f"venv-{name.replace(' ', '-')}")
            python = str(environment / "bin" / "python")
            run(uv, "venv", "--quiet", "--python", sys.executable, str(environment))
            run(uv, "pip", "install", "--quiet", "--python", python, *tried[name])
            script = HERE / f"try_{name.partition(' ')[0]}.py"
            here = Path(folder, f"of-{environment.name}")
            here.mkdir()
            run(python, "-I", "-W", "error", "-c", script.read_text(), cwd=str(here))
            return f"wheel, {name}: passed"

        with ThreadPoolExecutor(2) as two:  # one waits for packages while another one works
            for told in two.map(try_out, tried):
                print(told, flush=True)


def run(*command: str, cwd: str | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd)


if __name__ == "__main__":
    main(*sys.argv[1:])
