from uuid import uuid4

from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI

app = FastAPI()
init_app(app)
cache: dict[str, int] = {}  # with several processes one that they share, such as Redis


def convert(rows: list[str], job: str) -> None:
    for done, row in enumerate(rows, 1):
        row.upper()  # what takes long
        cache[job] = 100 * done // len(rows)


@app.post("/jobs")
def start(rows: list[str], background_tasks: BackgroundTasks) -> dict[str, str]:
    job = str(uuid4())
    cache[job] = 0
    background_tasks.add_task(convert, rows, job)
    return {"job": job}


@app.get("/jobs/{job}")
def progress(job: str) -> dict[str, int]:
    return {"percent": cache[job]}
