from bgadapters.fastapi import BackgroundTasks
from fastapi import FastAPI, UploadFile

from notifications import write_notification

app = FastAPI()


def count_words(email: str, text: bytes):
    write_notification(email, message=f"{len(text.split())} words")


@app.post("/count/{email}")
async def count(email: str, file: UploadFile, background_tasks: BackgroundTasks):
    background_tasks.add_task(count_words, email, await file.read())
    return {"message": "Counting in the background"}
