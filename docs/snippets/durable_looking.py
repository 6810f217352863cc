from datetime import timedelta

from bgadapters.stores import StoredTasks

tasks = StoredTasks("sqlite:///tasks.db")
print(tasks.count())
failed = tasks.list("failed")
for task in failed:
    print(task.id, task.name, task.attempts, task.error or task.reason)
tasks.retry(task.id for task in failed if task.name == "shop.charge")
tasks.purge(timedelta(days=30))
