from bgadapters.testing import capture_tasks

from flask_first import app, write_notification

with capture_tasks() as tasks:
    app.test_client().post("/send-notification/ada@example.com")
    app.test_client().post("/send-notification/bob@example.com")
tasks.assert_added_once(write_notification, "ada@example.com", message="some notification")
print([task.path for task in tasks.tasks])
print(tasks.run_pending())
