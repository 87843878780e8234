"""The listener for gateways: their WebSocket, and what they download over HTTP."""
