from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI

from process_work import count_primes

app = FastAPI()
init_app(app)


@app.post("/primes/{limit}")
async def primes(limit: int, background_tasks: BackgroundTasks):
    in_process = background_tasks.options(engine="process", timeout=600)
    in_process.add_task(count_primes, limit, f"primes-{limit}.txt")
    return {"message": "Counting"}
