"""ENDPOINTS: the admin API for people and programs, and the gateway API for gateways.

- `pod`: one replica: both listeners, and the order of starting and stopping
- `admin_api/`: the API listener (FastAPI)
- `gateway_api`: the gateway listener (aiohttp, because gateways confirm by Pong, and ASGI hides control frames)
- `gateway_socket`: one gateway's WebSocket
- `admission`: limits that are decided before an upgrade
- `tls`: the self-made certificate
- `error_replies`: which error is which HTTP status
"""

from gatecast.extras import require

require("server")
