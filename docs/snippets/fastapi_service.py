from bgadapters.fastapi import init_app
from fastapi import FastAPI

import services

app = FastAPI()
init_app(app)


@app.post("/sign-up/{email}")
def sign_up(email: str):
    services.sign_up(email)
    return {"message": "Signed up"}
