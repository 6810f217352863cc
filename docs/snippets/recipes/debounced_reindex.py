from bgadapters.fastapi import BackgroundTasks
from fastapi import FastAPI

REST = 2.0  # seconds
products: dict[int, str] = {}
search_index: dict[int, str] = {}

app = FastAPI()


def reindex(pk: int) -> None:
    if pk in products:
        search_index[pk] = products[pk].lower()
    else:
        search_index.pop(pk, None)


def key_of(pk: int) -> str:
    return f"reindex:{pk}"


@app.put("/products/{pk}")
def save(pk: int, name: str, background_tasks: BackgroundTasks) -> None:
    products[pk] = name
    # However often it is saved, it is indexed once, when it was left alone for a while.
    background_tasks.options(delay=REST, key=key_of(pk)).add_task(reindex, pk)


@app.delete("/products/{pk}")
def delete(pk: int, background_tasks: BackgroundTasks) -> None:
    del products[pk]
    background_tasks.forget(key_of(pk))
    background_tasks.add_task(reindex, pk)
