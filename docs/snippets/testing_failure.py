import pytest
from bgadapters.flask import BackgroundTasks
from flask import Flask

app = Flask(__name__)
background_tasks = BackgroundTasks(app)


def charge(amount):
    raise ConnectionError("no answer from the bank")


@app.post("/order")
def order():
    background_tasks.add_task(charge, 10)
    return "ordered"


# region: ignored
@pytest.mark.background_tasks(ignore_failures=True)
def test_the_order_stands_though_charging_fails(background_tasks):
    assert app.test_client().post("/order").text == "ordered"
    task = background_tasks.assert_added_once(charge, 10)
    assert task.outcome == "failed"
    assert isinstance(task.exception, ConnectionError)


# endregion
def test_the_order_stands():
    assert app.test_client().post("/order").text == "ordered"


def test_charges_twelve(background_tasks):
    background_tasks.capture()
    app.test_client().post("/order")
    background_tasks.assert_added(charge, 12)
