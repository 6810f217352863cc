from bgadapters import BackgroundTasks, NoRetry, Retry

from notifications import write_notification

answers = iter(["busy", "connection lost", "accepted"])


def send(email):
    answer = next(answers)
    if answer == "busy":
        raise Retry("the server is busy", delay=0.05)
    if answer == "connection lost":
        raise ConnectionResetError(answer)
    if answer == "no such address":
        raise NoRetry(answer)
    write_notification(email, message=answer)


with BackgroundTasks() as background_tasks:
    lasting = background_tasks.options(retries=4, backoff=0.01, retry_on=(OSError, TimeoutError))
    lasting.add_task(send, "ada@example.com")
