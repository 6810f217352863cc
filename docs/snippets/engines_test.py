from fastapi.testclient import TestClient

from engines_report import make_report
from engines_shop import app


def test_a_report_is_ordered(background_tasks):
    TestClient(app).post("/reports/ada@example.com")
    (task,) = background_tasks.tasks
    assert task.func is make_report
    assert task.options.engine == "heavy"
    assert task.outcome == "succeeded"  # in this process: nothing was sent
