"""What holds for every engine holds for Celery, with RabbitMQ, Redis and without a server."""

from __future__ import annotations

import pytest

from tests.engines.celery_benches import FilesBench, RabbitMQBench, RedisBench, is_there
from tests.engines.contract import EngineContract


class TestFiles(EngineContract):
    bench_type = FilesBench


@pytest.mark.skipif(not is_there(RabbitMQBench.its_port), reason="no RabbitMQ at port 5672")
class TestRabbitMQ(EngineContract):
    bench_type = RabbitMQBench


@pytest.mark.skipif(not is_there(RedisBench.its_port), reason="no Redis at port 6379")
class TestRedis(EngineContract):
    bench_type = RedisBench
