from bgadapters.flask import BackgroundTasks
from flask import Flask

from notifications import send_welcome

app = Flask(__name__)
background_tasks = BackgroundTasks(app)


@app.post("/sign-up/<email>")
async def sign_up(email):
    background_tasks.add_task(send_welcome, email)
    return {"message": "Signed up"}
