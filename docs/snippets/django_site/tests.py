import logging
import threading
from io import StringIO
from pathlib import Path
from unittest import mock

from asgiref.testing import ApplicationCommunicator
from bgadapters import drain
from django.core import mail
from django.core.management import call_command
from django.test import SimpleTestCase, TransactionTestCase, override_settings


class Log:
    """Each test has a log of its own."""

    def setUp(self):
        Path("log.txt").write_text("")
        self.addCleanup(drain)

    def lines(self):
        drain()
        return Path("log.txt").read_text().splitlines()


class ViewTests(Log, SimpleTestCase):
    def test_several_run_in_the_order_added(self):
        self.client.post("/sign-up/ada")
        self.assertEqual(
            self.lines(),
            [f"notification for ada: {what}" for what in ("signed up", "welcome", "done")],
        )

    def test_decorated_below_require_post(self):
        self.assertEqual(self.client.get("/sign-up/ada").status_code, 405)
        self.assertEqual(self.lines(), [])

    def test_class_based_view(self):
        self.client.post("/notification/ada")
        self.assertEqual(self.lines(), ["notification for ada: posted"])

    def test_add_task_below_the_view(self):
        self.client.post("/sign-up-by-service/ada")
        expected = ["notification for ada: signed up", "notification for ada: welcome"]
        self.assertEqual(self.lines(), expected)

    def test_middleware_instead_of_decorator(self):
        self.client.get("/visit/ada")
        expected = ["notification for ada: visited", "notification for ada: in the same queue"]
        self.assertEqual(self.lines(), expected)

    def test_typed_request(self):
        self.client.get("/typed/ada")
        self.assertEqual(self.lines(), ["notification for ada: typed"])

    def test_rest_framework(self):
        self.assertEqual(self.client.post("/rest/ada").status_code, 200)
        self.assertEqual(self.lines(), ["notification for ada: ordered"])

    def test_an_exception_of_rest_framework_discards(self):
        with self.assertLogs("bgadapters", logging.WARNING):
            self.assertEqual(self.client.post("/rest/ada?stock=0").status_code, 404)
        self.assertEqual(self.lines(), [])

    def test_ninja(self):
        self.assertEqual(self.client.post("/ninja/order/ada").status_code, 200)
        self.assertEqual(self.lines(), ["notification for ada: ordered"])

    def test_an_exception_of_ninja_discards(self):
        with self.assertLogs("bgadapters", logging.WARNING):
            self.assertEqual(self.client.post("/ninja/order/ada?stock=0").status_code, 409)
        self.assertEqual(self.lines(), [])

    def test_a_returned_error_runs_the_tasks(self):
        self.client.post("/order/ada?quantity=0")
        self.assertEqual(
            self.lines(),
            ["notification for ada: ordered", "notification for audit@example.com: order of ada"],
        )

    def test_a_raised_error_discards_all_but_always(self):
        with self.assertLogs("bgadapters", logging.WARNING) as logs:
            self.client.post("/order/ada?stock=0")
        self.assertEqual(self.lines(), ["notification for audit@example.com: order of ada"])
        self.assertEqual(len(logs.output), 1)
        self.assertIn("1 background task(s) discarded", logs.output[0])
        self.assertIn("notifications.write_notification", logs.output[0])

    def test_tasks_of_the_framework_run_after_the_response(self):
        result = self.client.post("/register/ada").json()["result"]
        self.assertEqual(
            sorted(self.lines()),
            [
                "notification for ada: registered",
                "notification for ada: welcome",
                "notification for ops@example.com: alert",
            ],
        )
        state = self.client.get(f"/state/{result}").json()
        self.assertEqual(state, {"status": "SUCCESSFUL", "attempts": 1})

    def test_a_task_of_the_framework_for_later(self):
        self.client.post("/register-later/ada")
        self.assertEqual(self.lines(), ["notification for ada: welcome"])

    def test_add_task_given_a_task_of_the_framework(self):
        self.client.post("/register-by-add-task/ada")
        self.assertEqual(self.lines(), ["notification for ada: welcome"])

    @override_settings(LANGUAGE_CODE="en", MIDDLEWARE=["django.middleware.locale.LocaleMiddleware"])
    def test_the_language_is_the_request_s(self):
        self.client.post("/buy/ada", headers={"Accept-Language": "de"})
        self.assertEqual(self.lines(), ["notification for ada: thanks in de"])

    def test_a_full_backlog_refuses(self):
        may_end = threading.Event()

        def hold(*_, **__):
            may_end.wait(10)

        with (
            override_settings(BACKGROUND_TASKS={"MAX_PENDING": 1, "ON_FULL": "reject"}),
            mock.patch("django_site.views.write_notification", side_effect=hold),
        ):
            accepted = self.client.post("/send-or-refuse/ada")
            refused = self.client.post("/send-or-refuse/ada")
            may_end.set()
            drain()
        self.assertEqual((accepted.status_code, refused.status_code), (202, 503))
        self.assertEqual(refused.headers["Retry-After"], "5")

    def test_a_failing_task_reaches_the_hook_of_the_settings(self):
        with (
            mock.patch("django_site.first.write_notification", side_effect=OSError("disk full")),
            self.assertLogs("bgadapters", logging.ERROR),
        ):
            self.client.post("/send-notification/ada")
            drain()
        (line,) = self.lines()
        self.assertTrue(line.startswith("notification for ops@example.com: "), line)
        self.assertTrue(line.endswith(": disk full"), line)

    async def test_the_asgi_application_returns_when_the_tasks_have_run(self):
        from django_site.asgi import application

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/send-mail/ada",
            "query_string": b"",
            "headers": [(b"host", b"testserver")],
        }
        request = ApplicationCommunicator(application, scope)
        await request.send_input({"type": "http.request", "body": b""})
        started = await request.receive_output()
        await request.receive_output()
        await request.wait()
        self.assertEqual(started["status"], 200)
        self.assertEqual(Path("log.txt").read_text(), "notification for ada: a mail follows\n")

    def test_command(self):
        call_command("send_reminders", "ada", "bob", stdout=StringIO())
        self.assertEqual(
            self.lines(), ["notification for ada: a reminder", "notification for bob: a reminder"]
        )


class MovingTests(Log, TransactionTestCase):
    def test_a_mail_is_sent_when_the_account_is_there(self):
        self.assertEqual(self.client.post("/sign-up-with-mail/ada@example.com").status_code, 201)
        drain()
        self.assertEqual([mail.to for mail in mail.outbox], [["ada@example.com"]])
