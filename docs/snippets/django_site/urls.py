from django.urls import path

from django_site import commit, enqueueing, first, moving_celery, ninja_api, rest, typed, views

urlpatterns = [
    path("send-notification/<email>", first.send_notification),
    path("sign-up/<email>", views.sign_up),
    path("send-mail/<email>", views.send_mail),
    path("notification/<email>", views.Notification.as_view()),
    path("sign-up-by-service/<email>", views.sign_up_by_service),
    path("visit/<email>", views.visit),
    path("order/<email>", views.order),
    path("buy/<email>", views.buy),
    path("send-or-refuse/<email>", views.send_or_refuse),
    path("create-account/<email>", commit.create_account),
    path("register/<email>", enqueueing.register),
    path("register-later/<email>", enqueueing.register_later),
    path("register-by-add-task/<email>", enqueueing.register_by_add_task),
    path("state/<result_id>", enqueueing.state),
    path("sign-up-with-mail/<email>", moving_celery.sign_up),
    path("typed/<email>", typed.send_notification),
    path("rest/<email>", rest.Order.as_view()),
    path("ninja/", ninja_api.api.urls),
]
