import os

# region: settings
from huey import SqliteHuey
from huey.serializer import SignedSerializer

# endregion
SECRET_KEY = os.environ["HUEY_SECRET"]
# region: settings
INSTALLED_APPS = ["huey.contrib.djhuey", "bgadapters.django"]
HUEY = SqliteHuey("shop", filename="huey.db", serializer=SignedSerializer(SECRET_KEY))
BACKGROUND_TASKS = {
    "ENGINES": {
        "heavy": {
            "BACKEND": "bgadapters.engines.huey.HueyEngine",
            "OPTIONS": {"huey": "huey.contrib.djhuey.HUEY"},
        },
    },
    "TASK_MODULES": ["engines_report"],
}
# endregion
