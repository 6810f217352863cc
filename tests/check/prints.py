from tests.check.apps import flask_app

print("printed by the application")
app = flask_app()
