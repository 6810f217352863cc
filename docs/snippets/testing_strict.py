import pytest
from bgadapters import BackgroundTasks, NotPortableError

from notifications import write_notification


@pytest.mark.background_tasks(strict_portable=True)
def test_an_exception_does_not_travel():
    with BackgroundTasks() as tasks, pytest.raises(NotPortableError):
        tasks.add_task(write_notification, "ada@example.com", message=KeyError("ada"))
