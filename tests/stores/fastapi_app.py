"""FastAPI with sessions of SQLAlchemy, and durable tasks in the same database."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from bgadapters.fastapi import BackgroundTasks, init_app
from tests.durable import work

url = make_url(os.environ[work.STORE]).difference_update_query(["lease", "table"])
engine = create_engine(url)
async_engine = create_async_engine(url.set(drivername="postgresql+psycopg_async"))
application = FastAPI()
init_app(application, **work.settings())


def get_session() -> Iterator[Session]:
    """A session that commits when the view has returned, as most people have it."""
    with Session(engine) as session, session.begin():
        yield session


async def get_async_session() -> AsyncIterator[AsyncSession]:
    """A session that the view commits."""
    async with AsyncSession(async_engine) as session:
        yield session


@application.get("/plain")
def plain(name: str, gate: str, background_tasks: BackgroundTasks) -> str:
    """Add a task that waits for a file."""
    background_tasks.add_task(work.wait, name, gate)
    return name


@application.get("/session")
def in_session(
    name: str,
    fails: bool,
    session: Annotated[Any, Depends(get_session, scope="function")],
    background_tasks: BackgroundTasks,
) -> str:
    """Add a task in a transaction that the dependency ends."""
    background_tasks.options(session=session, durable=True).add_task(work.work, name)
    if fails:
        raise HTTPException(400)
    return name


@application.get("/async")
async def in_async_session(
    name: str,
    fails: bool,
    session: Annotated[Any, Depends(get_async_session)],
    background_tasks: BackgroundTasks,
) -> str:
    """Add a task in a transaction that the view commits, or not."""
    background_tasks.options(session=session, durable=True).add_task(work.work, name)
    if not fails:
        await session.commit()
    return name
