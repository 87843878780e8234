"""Which policies a gateway supports, and whether a document's parameters keep to their schemas."""
