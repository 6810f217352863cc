"""The mixin, under ``unittest`` alone and under Django's ``test`` command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

from bgadapters import BackgroundTasks
from bgadapters.core.model import mode
from bgadapters.testing import BackgroundTasksTestMixin
from tests.testing.running import HERE

ROOT = HERE.parents[1]

PLAIN = """
import asyncio, sys
sys.modules.update(dict.fromkeys(["pytest", "fastapi", "starlette", "django", "flask", "asgiref"]))
import unittest
from bgadapters import BackgroundTasks
from bgadapters.testing import BackgroundTasksTestMixin

ran = []

def add(func, *args):
    with BackgroundTasks() as tasks:
        tasks.add_task(func, *args)

class Runs(BackgroundTasksTestMixin, unittest.TestCase):
    def tearDown(self):
        add(ran.append, "tear-down")

    def test_it(self):
        add(ran.append, 1)
        self.assertIn(1, ran)
        self.background_tasks.assert_added_once(ran.append, 1)

    def test_that_fails(self):
        add(divmod, 1, 0)

    def test_that_leaks(self):
        BackgroundTasks().add_task(ran.append, "never")

class Captures(BackgroundTasksTestMixin, unittest.IsolatedAsyncioTestCase):
    background_tasks_mode = "capture"

    async def test_it(self):
        async with BackgroundTasks() as tasks:
            tasks.add_task(asyncio.sleep, 0, "captured")
        self.assertEqual(len(self.background_tasks.pending), 1)
        self.assertEqual(await self.background_tasks.arun_pending(), 1)
        self.assertEqual(self.background_tasks.tasks[0].outcome, "succeeded")

class SetsUpAClass(BackgroundTasksTestMixin, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        add(ran.append, "class")
        assert "class" in ran

    def test_it(self):
        self.background_tasks.assert_none()

    @classmethod
    def tearDownClass(cls):
        add(divmod, 1, 0)

class Strict(BackgroundTasksTestMixin, unittest.TestCase):
    background_tasks_strict_portable = True

    def test_it(self):
        with self.assertRaises(TypeError):
            add(lambda: None)

unittest.main()
"""


def test_unittest_alone(tmp_path: Path) -> None:
    (tmp_path / "suite.py").write_text(PLAIN)
    result = run("suite.py", cwd=tmp_path)
    failed = re.findall(r"^(ERROR|FAIL): (\w+) ", result.stderr, re.MULTILINE)
    of_the_class = ("ERROR", "tearDownClass")
    assert sorted(failed) == [
        *(of_the_class, ("ERROR", "test_that_fails"), ("FAIL", "test_that_leaks"))
    ]
    assert "Ran 6 tests" in result.stderr
    assert "ZeroDivisionError: integer" in result.stderr
    assert "1 background task(s) never ran, since nothing closed" in result.stderr


DJANGO = """
from django.contrib.auth.models import User
from django.test import Client, TestCase
from bgadapters import add_task
from bgadapters.django import background_tasks
from bgadapters.testing import BackgroundTasksTestMixin
from django.http import HttpResponse
from django.urls import path

seen = []

def count(): seen.append(User.objects.count())

@background_tasks
def view(request):
    add_task(count)
    return HttpResponse("fine")

@background_tasks
def failing(request):
    add_task(divmod, 1, 0)
    return HttpResponse("fine")

urlpatterns = [path("view", view), path("fail", failing)]

class OfAClass(BackgroundTasksTestMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        User.objects.create(username="ada")
        Client().get("/view")

    def test_it(self):
        self.assertEqual(seen, [1])

class Captured(BackgroundTasksTestMixin, TestCase):
    background_tasks_mode = "capture"

    @classmethod
    def setUpTestData(cls):
        Client().get("/fail")

    def test_it(self):
        self.background_tasks.assert_none()

class Tests(BackgroundTasksTestMixin, TestCase):
    def setUp(self):
        seen.clear()

    def test_it(self):
        User.objects.create(username="ada")
        self.client.get("/view")
        self.assertEqual(seen, [1])
        self.assertEqual(self.background_tasks.assert_added_once(count).path, "/view")

    async def test_coroutine(self):
        await User.objects.acreate(username="ada")
        await self.async_client.get("/view")
        self.assertEqual(seen, [1])

    def test_that_fails(self):
        self.client.get("/fail")
"""


def test_the_test_command_of_django(tmp_path: Path) -> None:
    (tmp_path / "test_site.py").write_text(DJANGO)
    environ = {
        "DJANGO_SETTINGS_MODULE": "tests.testing.suites.django_settings",
        "SUITE_URLS": "test_site",
    }
    result = run("-m", "django", "test", "--verbosity=0", cwd=tmp_path, **environ)
    failed = re.findall(r"^(ERROR|FAIL): (\w+) ", result.stderr, re.MULTILINE)
    assert failed == [("ERROR", "test_that_fails")]
    assert "Ran 5 tests" in result.stderr


def run(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(cwd)])
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_in_this_process() -> None:
    """The same once more, where coverage sees it."""

    class Case(BackgroundTasksTestMixin, unittest.TestCase):
        @classmethod
        def setUpClass(cls) -> None:
            super().setUpClass()
            cls.add()

        @staticmethod
        def add() -> None:
            with BackgroundTasks() as tasks:
                tasks.add_task(divmod, 1, 0)

        def test_it(self) -> None:
            self.add()

    result = unittest.TestResult()
    unittest.TestSuite([Case("test_it")]).run(result)
    told = [(str(where), error) for where, error in result.errors]
    assert [where.partition(" ")[0] for where, _ in told] == ["test_it", "tearDownClass"]
    assert all("ZeroDivisionError" in error for _, error in told)
    assert mode.active is mode.SERVING
