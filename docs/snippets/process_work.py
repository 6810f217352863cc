from pathlib import Path


def count_primes(limit: int, path: str) -> None:
    """Compute for a while, and leave what comes of it where others find it."""
    found = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))
    Path(path).write_text(str(found))


def send_offer(order: int) -> None:
    from flask import current_app, render_template_string

    shop = current_app.config["SHOP"]
    text = render_template_string(
        "An offer for order {{ order }} of {{ shop }}", order=order, shop=shop
    )
    Path(f"offer-{order}.txt").write_text(text)
