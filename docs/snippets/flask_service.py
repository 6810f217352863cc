from bgadapters.flask import BackgroundTasks
from flask import Flask

import services

app = Flask(__name__)
BackgroundTasks(app)


@app.post("/sign-up/<email>")
def sign_up(email):
    services.sign_up(email)
    return {"message": "Signed up"}
