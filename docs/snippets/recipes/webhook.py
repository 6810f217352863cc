from urllib.error import HTTPError
from urllib.request import Request, urlopen

from bgadapters import NoRetry, Retry, task_options
from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI

app = FastAPI()
init_app(app)


@task_options(retries=5, backoff=2, retry_on=OSError)  # no connection, no answer, a 5xx
def post(url: str, body: str) -> None:
    request = Request(url, body.encode(), {"Content-Type": "application/json"})
    try:
        urlopen(request, timeout=10).close()
    except HTTPError as error:
        if error.code == 429:
            raise Retry(error, delay=float(error.headers.get("Retry-After", 1))) from error
        if error.code < 500:
            raise NoRetry(error) from error
        raise


@app.post("/paid")
def paid(url: str, background_tasks: BackgroundTasks) -> dict[str, str]:
    background_tasks.add_task(post, url, '{"event": "paid"}')
    return {"message": "paid"}
