"""The web console: what arrived where, and why not.

A client of the same services as the admin API; it adds no rule of its own, and can do nothing that the API cannot.
"""
