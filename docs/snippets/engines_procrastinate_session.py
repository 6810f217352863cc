import os

from bgadapters.fastapi import BackgroundTasks
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from engines_procrastinate import app, jobs, welcome

engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql", "postgresql+psycopg"))


# region: session
@app.post("/orders/{email}")
def order(email: str, background_tasks: BackgroundTasks):
    with Session(engine) as session, session.begin():
        session.execute(text("INSERT INTO orders VALUES (:email)"), {"email": email})
        tasks = background_tasks.options(send="in_transaction", session=session)
        tasks.add_task(welcome, email)
    return {"message": "Ordered"}


# endregion


# region: own
@jobs.task(queue="images")
def resize(image: str): ...


@app.post("/images/{image}")
def upload(image: str, background_tasks: BackgroundTasks):
    background_tasks.options(engine="jobs").add_task(resize, image=image)
    return {"message": "Uploaded"}


# endregion
