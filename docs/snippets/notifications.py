import asyncio


def write_notification(email: str, message: str = "") -> None:
    with open("log.txt", mode="a") as log:
        log.write(f"notification for {email}: {message}\n")


async def send_welcome(email: str) -> None:
    await asyncio.sleep(0.1)  # a mail service, which takes a while
    write_notification(email, message="welcome")
