from bgadapters import stats
from fastapi import FastAPI, Response

app = FastAPI()


@app.get("/health")
def health(response: Response) -> dict[str, float]:
    numbers = stats()
    wait = max((each.oldest_wait for each in numbers), default=0.0)
    if wait > 60:
        response.status_code = 503
    return {"oldest_wait": wait, "pending": sum(each.pending for each in numbers)}
