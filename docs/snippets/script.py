from bgadapters import BackgroundTasks, drain

from notifications import send_welcome, write_notification


def main():
    with BackgroundTasks() as tasks:
        tasks.add_task(write_notification, "ada@example.com", message="first")
        tasks.add_task(send_welcome, "ada@example.com")
    print("The tasks run while the script goes on.")
    abandoned = drain(timeout=10)
    print("Abandoned:", abandoned)


if __name__ == "__main__":
    main()
