"""The tenants."""

from __future__ import annotations

from django_tenants.models import DomainMixin, TenantMixin


class Client(TenantMixin):  # type: ignore[misc]  # django-tenants has no types
    """A tenant."""

    auto_create_schema = False


class Domain(DomainMixin):  # type: ignore[misc]
    """Where a tenant is found."""
