"""The API listener: the admin API under `/api/v1`, its documentation, health and metrics."""

from gatecast.server.admin_api.app import create_admin_app
from gatecast.server.admin_api.context import AdminContext

__all__ = ["AdminContext", "create_admin_app"]
