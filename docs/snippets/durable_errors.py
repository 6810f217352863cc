from bgadapters import StoreUnavailableError
from bgadapters.fastapi import init_app
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

app = FastAPI()
init_app(app, store="sqlite:///tasks.db")


@app.exception_handler(StoreUnavailableError)
async def try_later(request: Request, exc: StoreUnavailableError):
    return JSONResponse({"detail": "Try again"}, 503, headers={"Retry-After": "5"})
