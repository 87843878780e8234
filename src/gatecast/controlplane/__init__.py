"""DOMAIN: gateways, their tokens, and who may administer them. Publishes through the hub in the same transaction.

Its SQL is one file for every database: plain statements, `$1` placeholders, and `now()`.
"""

from gatecast.extras import require

require("server")
